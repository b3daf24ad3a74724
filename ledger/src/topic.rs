//! Which objects a watcher follows, and who follows an object.
//!
//! Watchers are found by the most precise thing that their topic names: everything, a table, a partition, or one
//! object. So a change looks into four places, however many watchers there are elsewhere.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::{Change, Key};

/// Some objects of one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    table: String,
    partition: Option<String>,
    ids: Ids,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Ids {
    All,
    StartingWith(String),
    One(String),
}

impl Topic {
    /// Everything in a table.
    pub fn table(table: &str) -> Topic {
        Topic { table: table.into(), partition: None, ids: Ids::All }
    }

    /// Everything in a partition of a table.
    pub fn partition(table: &str, partition: &str) -> Topic {
        Topic { table: table.into(), partition: Some(partition.into()), ids: Ids::All }
    }

    /// The objects of a partition whose ids start so.
    pub fn starting_with(table: &str, partition: &str, prefix: &str) -> Topic {
        Topic { ids: Ids::StartingWith(prefix.into()), ..Topic::partition(table, partition) }
    }

    /// One object.
    pub fn object(key: &Key) -> Topic {
        Topic { ids: Ids::One(key.id.clone()), ..Topic::partition(&key.table, &key.partition) }
    }

    fn matches(&self, key: &Key) -> bool {
        self.table == key.table
            && self.partition.as_ref().is_none_or(|partition| *partition == key.partition)
            && match &self.ids {
                Ids::All => true,
                Ids::StartingWith(prefix) => key.id.starts_with(prefix),
                Ids::One(id) => *id == key.id,
            }
    }
}

/// What a watcher follows: all objects, or those of any of its topics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    topics: Option<Vec<Topic>>,
}

impl Filter {
    /// All objects.
    pub fn everything() -> Filter {
        Filter { topics: None }
    }

    /// The objects of any of these; without topics, nothing.
    pub fn of(topics: impl IntoIterator<Item = Topic>) -> Filter {
        Filter { topics: Some(topics.into_iter().collect()) }
    }

    /// Is this object followed?
    pub fn matches(&self, key: &Key) -> bool {
        self.topics.as_ref().is_none_or(|topics| topics.iter().any(|topic| topic.matches(key)))
    }

    pub(crate) fn concerns(&self, change: &Change) -> bool {
        self.topics.is_none() || change.rows.iter().any(|row| self.matches(&row.key))
    }
}

/// Who follows what, by number.
#[derive(Debug, Default)]
pub(crate) struct Index {
    everything: HashSet<u64>,
    tables: HashMap<String, InTable>,
}

#[derive(Debug, Default)]
struct InTable {
    all: HashSet<u64>,
    partitions: HashMap<String, InPartition>,
}

#[derive(Debug, Default)]
struct InPartition {
    /// All of it, or ids that start in some way.
    all: HashSet<u64>,
    objects: HashMap<String, HashSet<u64>>,
}

impl Index {
    pub(crate) fn add(&mut self, id: u64, filter: &Filter) {
        let Some(topics) = &filter.topics else {
            self.everything.insert(id);
            return;
        };
        for topic in topics {
            let table = self.tables.entry(topic.table.clone()).or_default();
            let Some(partition) = &topic.partition else {
                table.all.insert(id);
                continue;
            };
            let partition = table.partitions.entry(partition.clone()).or_default();
            match &topic.ids {
                Ids::One(object) => partition.objects.entry(object.clone()).or_default().insert(id),
                Ids::All | Ids::StartingWith(_) => partition.all.insert(id),
            };
        }
    }

    /// Forgets a watcher, and the places that nobody follows any more: ids and partitions come and go for years.
    pub(crate) fn remove(&mut self, id: u64, filter: &Filter) {
        self.everything.remove(&id);
        for topic in filter.topics.iter().flatten() {
            let Some(table) = self.tables.get_mut(&topic.table) else { continue };
            match &topic.partition {
                None => {
                    table.all.remove(&id);
                }
                Some(name) => table.remove(id, name, &topic.ids),
            }
            if table.all.is_empty() && table.partitions.is_empty() {
                self.tables.remove(&topic.table);
            }
        }
    }

    /// Everyone who may follow something in this change, once.
    pub(crate) fn interested_in(&self, change: &Change) -> BTreeSet<u64> {
        let mut found: BTreeSet<u64> = self.everything.iter().copied().collect();
        if self.tables.is_empty() {
            return found;
        }
        for row in &change.rows {
            let Some(table) = self.tables.get(&row.key.table) else { continue };
            found.extend(&table.all);
            let Some(partition) = table.partitions.get(&row.key.partition) else { continue };
            found.extend(&partition.all);
            found.extend(partition.objects.get(&row.key.id).into_iter().flatten());
        }
        found
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.everything.is_empty() && self.tables.is_empty()
    }
}

impl InTable {
    fn remove(&mut self, id: u64, name: &str, ids: &Ids) {
        let Some(partition) = self.partitions.get_mut(name) else { return };
        match ids {
            Ids::All | Ids::StartingWith(_) => {
                partition.all.remove(&id);
            }
            Ids::One(object) => {
                if let Some(followers) = partition.objects.get_mut(object) {
                    followers.remove(&id);
                    if followers.is_empty() {
                        partition.objects.remove(object);
                    }
                }
            }
        }
        if partition.all.is_empty() && partition.objects.is_empty() {
            self.partitions.remove(name);
        }
    }
}
