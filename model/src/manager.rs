//! Managers that join a cluster that exists: who may, under which number, and who may not come back.
//!
//! Who votes at present is not here: that is Raft's membership. Here is what the membership cannot say: which numbers
//! were ever given (none is given twice, because a replica is recognised by its number), which of them must not be
//! listened to any more, and what a join token is still good for.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use skep_ledger::{Record, Tx, View};

use crate::name::Name;
use crate::token_terms::{self, Bounds};
use crate::{CLUSTER, Refusal, Ruling};

/// Longest life of a join token. Whoever has one gets the cluster's keys, so it should be used soon.
pub const JOIN_TOKEN_LIFE_MAX: SignedDuration = SignedDuration::from_hours(24);

/// Life of a join token where nothing else is said.
pub const JOIN_TOKEN_LIFE: SignedDuration = SignedDuration::from_hours(1);

/// How often one token can be used at most: more managers than that are no cluster.
pub const JOIN_TOKEN_USES_MAX: u32 = 9;

/// A dead manager is not removed earlier than that: a reboot takes minutes.
pub const REMOVE_DEAD_AFTER_MIN: SignedDuration = SignedDuration::from_mins(1);

/// The longest time after which a dead manager is removed: whoever wants more, wants never.
pub const REMOVE_DEAD_AFTER_MAX: SignedDuration = SignedDuration::from_hours(365 * 24);

/// Managers in a cluster, dead and learning ones included. More voters make every write slower and nothing safer.
pub const MANAGERS_MAX: usize = 9;

/// What a manager is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ManagerRole {
    /// Votes as soon as it has caught up.
    #[default]
    Voter,
    /// Receives everything and does not vote until it is promoted.
    Standby,
}

/// What a join token is still good for. Its secret is not here: it is derived.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinToken {
    /// Its name; public.
    pub id: String,
    /// What becomes of who joins with it.
    pub role: ManagerRole,
    /// How many more may join with it.
    pub uses_left: u32,
    /// When it ends.
    pub expires_at: Timestamp,
    /// When it was made.
    pub created_at: Timestamp,
}

impl Record for JoinToken {
    const TABLE: &'static str = "join-token";
    fn partition(&self) -> &str {
        CLUSTER
    }
    fn id(&self) -> String {
        self.id.clone()
    }
}

/// Where a number stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// It was given to somebody.
    Admitted,
    /// Whoever comes with it is turned away, for ever.
    Removed,
}

/// A number that was given, or taken away. Founders have a row only once they are removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manager {
    /// The number.
    pub number: u64,
    /// Its name.
    pub name: String,
    /// What it is for.
    pub role: ManagerRole,
    /// Where it stands.
    pub standing: Standing,
    /// SHA-256 of the public key that it came with; empty for founders.
    pub key_hash: Vec<u8>,
    /// The number whose data it has lost, if it is a manager that came back.
    pub replaces: Option<u64>,
    /// When the row was written.
    pub since: Timestamp,
}

impl Record for Manager {
    const TABLE: &'static str = "manager";
    fn partition(&self) -> &str {
        CLUSTER
    }
    fn id(&self) -> String {
        // In the order of numbers.
        format!("{:020}", self.number)
    }
}

/// What the managers do by themselves with each other.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Autopilot {
    /// How long a voter must be dead to be removed; absent: it stays until somebody removes it.
    pub remove_dead_after_seconds: Option<u64>,
}

impl Record for Autopilot {
    const TABLE: &'static str = "autopilot";
    fn partition(&self) -> &str {
        CLUSTER
    }
    fn id(&self) -> String {
        CLUSTER.into()
    }
}

/// A wish for a join token; the id is minted by the caller.
#[derive(Debug, Clone)]
pub struct TokenWish {
    /// The new token's id.
    pub id: String,
    /// What becomes of who joins with it.
    pub role: ManagerRole,
    /// How long it is valid.
    pub life: SignedDuration,
    /// How many may join with it.
    pub uses: u32,
}

/// Whoever asks to be a manager.
#[derive(Debug, Clone)]
pub struct Candidate<'a> {
    /// The wished name; empty: the rule chooses.
    pub name: &'a str,
    /// SHA-256 of its public key.
    pub key_hash: &'a [u8],
    /// By what it is let in.
    pub by: Admission<'a>,
    /// Numbers and names of the present members.
    pub members: &'a [(u64, String)],
}

/// By what a candidate is let in.
#[derive(Debug, Clone, Copy)]
pub enum Admission<'a> {
    /// A token of this id, whose secret was right.
    Token(&'a str),
    /// It was this member, has shown that member's certificate, and has lost its data.
    Former(u64),
}

/// Makes a join token. Ended tokens go on this occasion.
pub fn create_token(tx: &mut Tx<'_>, wish: &TokenWish) -> Ruling<JoinToken> {
    const BOUNDS: Bounds = Bounds {
        life: ("the life of a join token", JOIN_TOKEN_LIFE_MAX),
        uses: ("the number of uses of a join token", JOIN_TOKEN_USES_MAX),
    };
    let now = tx.now();
    let expires_at = token_terms::end(now, wish.life, wish.uses, &BOUNDS)?;
    for ended in tx.list::<JoinToken>(CLUSTER)?.iter().filter(|token| token.expires_at <= now) {
        tx.delete::<JoinToken>(CLUSTER, &ended.id);
    }
    let token =
        JoinToken { id: wish.id.clone(), role: wish.role, uses_left: wish.uses, expires_at, created_at: now };
    tx.put(&token);
    Ok(token)
}

/// Makes a join token worthless.
pub fn revoke_token(tx: &mut Tx<'_>, id: &str) -> Ruling<JoinToken> {
    let missing = || Refusal::NotFound { what: "join token", name: id.into(), scope: None };
    let token = tx.get::<JoinToken>(CLUSTER, id)?.ok_or_else(missing)?.record;
    tx.delete::<JoinToken>(CLUSTER, id);
    Ok(token)
}

/// Gives a candidate a number. The same key gets the same number again, so that a joiner that was interrupted can
/// repeat its request, also after it has used the token up.
pub fn admit(tx: &mut Tx<'_>, candidate: &Candidate<'_>) -> Ruling<Manager> {
    let rows = tx.list::<Manager>(CLUSTER)?;
    let mine = rows.iter().find(|row| row.key_hash == candidate.key_hash && !row.key_hash.is_empty());
    if let Some(known) = mine {
        return match known.standing {
            Standing::Admitted => Ok(known.record.clone()),
            Standing::Removed => Err(Refusal::ManagerRemoved { number: known.number }),
        };
    }
    let former = match candidate.by {
        Admission::Former(former) => Some(former),
        Admission::Token(_) => None,
    };
    let taken: Vec<u64> = rows.iter().map(|row| row.number).chain(members(candidate)).chain(former).collect();
    let number = taken.into_iter().max().unwrap_or(0) + 1;
    let (role, token) = match candidate.by {
        Admission::Token(id) => {
            let token = usable_token(tx, id)?;
            (token.role, Some(token))
        }
        Admission::Former(former) => (former_role(&rows, former)?, None),
    };
    let name = chosen_name(&rows, candidate, number)?;
    let replaced = match candidate.by {
        Admission::Former(former) => members(candidate).filter(|number| *number == former).count(),
        Admission::Token(_) => 0,
    };
    if candidate.members.len() - replaced >= MANAGERS_MAX {
        return Err(Refusal::TooMany { what: "managers in a cluster", limit: MANAGERS_MAX });
    }
    // Nothing below this line can fail.
    let since = tx.now();
    let mut replaces = None;
    if let Some(mut token) = token {
        token.uses_left -= 1;
        tx.put(&token);
    } else if let Admission::Former(former) = candidate.by {
        replaces = Some(former);
        tx.put(&removed_row(&rows, former, &name, since));
    }
    let key_hash = candidate.key_hash.to_vec();
    let row = Manager { number, name, role, standing: Standing::Admitted, key_hash, replaces, since };
    tx.put(&row);
    Ok(row)
}

/// Notes numbers that were in use before anybody counted them: the founders'. Whoever falls out of the membership without
/// being removed, as when a cluster is recovered from one survivor, has then still had its number.
pub fn note_members(tx: &mut Tx<'_>, members: &[(u64, String)]) -> Ruling<bool> {
    let rows = tx.list::<Manager>(CLUSTER)?;
    let since = tx.now();
    let unknown: Vec<_> =
        members.iter().filter(|(number, _)| !rows.iter().any(|row| row.number == *number)).collect();
    for (number, name) in &unknown {
        tx.put(&Manager {
            number: *number,
            name: name.clone(),
            role: ManagerRole::Voter,
            standing: Standing::Admitted,
            key_hash: vec![],
            replaces: None,
            since,
        });
    }
    Ok(!unknown.is_empty())
}

/// Notes that a number is not to be listened to any more, before its member leaves the membership. Again is fine.
pub fn remove(tx: &mut Tx<'_>, number: u64, name: &str) -> Ruling<bool> {
    let rows = tx.list::<Manager>(CLUSTER)?;
    if is_removed(&rows, number) {
        return Ok(false);
    }
    let since = tx.now();
    tx.put(&removed_row(&rows, number, name, since));
    Ok(true)
}

/// Notes what a manager is for from now on.
pub fn set_role(tx: &mut Tx<'_>, number: u64, role: ManagerRole) -> Ruling<bool> {
    let rows = tx.list::<Manager>(CLUSTER)?;
    let Some(row) = rows.into_iter().find(|row| row.number == number && row.role != role) else {
        return Ok(false);
    };
    tx.put(&Manager { role, ..row.record });
    Ok(true)
}

/// Sets what the managers do by themselves.
pub fn set_autopilot(tx: &mut Tx<'_>, wish: &Autopilot) -> Ruling<Autopilot> {
    let least = REMOVE_DEAD_AFTER_MIN.as_secs().unsigned_abs();
    let most = REMOVE_DEAD_AFTER_MAX.as_secs().unsigned_abs();
    let wished = wish.remove_dead_after_seconds;
    if let Some(seconds) = wished.filter(|seconds| !(least..=most).contains(seconds)) {
        return Err(Refusal::InvalidValue {
            what: "remove_dead_after_seconds",
            value: seconds.to_string(),
            allowed: format!("{least} to {most}, or null to leave dead managers alone"),
        });
    }
    if tx.get::<Autopilot>(CLUSTER, CLUSTER)?.map(|stored| stored.record).unwrap_or_default() != *wish {
        tx.put(wish);
    }
    Ok(wish.clone())
}

/// What the managers do by themselves.
pub fn autopilot(view: &View) -> Ruling<Autopilot> {
    Ok(view.get::<Autopilot>(CLUSTER, CLUSTER)?.map(|stored| stored.record).unwrap_or_default())
}

/// Every number that was given or taken away, in order.
pub fn list(view: &View) -> Ruling<Vec<Manager>> {
    Ok(view.list::<Manager>(CLUSTER)?.into_iter().map(|stored| stored.record).collect())
}

/// The join tokens, ended ones included, each with its revision.
pub fn tokens(view: &View) -> Ruling<Vec<JoinToken>> {
    Ok(view.list::<JoinToken>(CLUSTER)?.into_iter().map(|stored| stored.record).collect())
}

fn members<'a>(candidate: &'a Candidate<'_>) -> impl Iterator<Item = u64> + use<'a> {
    candidate.members.iter().map(|(number, _)| *number)
}

fn usable_token(tx: &mut Tx<'_>, id: &str) -> Ruling<JoinToken> {
    let now = tx.now();
    let token = tx.get::<JoinToken>(CLUSTER, id)?.map(|stored| stored.record);
    token.filter(|token| token.expires_at > now && token.uses_left > 0).ok_or(Refusal::JoinTokenUseless)
}

fn former_role(rows: &[skep_ledger::Stored<Manager>], former: u64) -> Ruling<ManagerRole> {
    // It need not be a member any more: a recovered cluster has left it out, and its certificate is still good.
    if is_removed(rows, former) {
        return Err(Refusal::ManagerRemoved { number: former });
    }
    Ok(rows.iter().find(|row| row.number == former).map(|row| row.role).unwrap_or_default())
}

fn chosen_name(
    rows: &[skep_ledger::Stored<Manager>],
    candidate: &Candidate<'_>,
    number: u64,
) -> Ruling<String> {
    let former = match candidate.by {
        Admission::Former(former) => Some(former),
        Admission::Token(_) => None,
    };
    let others = candidate.members.iter().filter(|(number, _)| Some(*number) != former);
    let admitted = rows.iter().filter(|row| row.standing == Standing::Admitted && Some(row.number) != former);
    let taken: Vec<&str> =
        others.map(|(_, name)| name.as_str()).chain(admitted.map(|row| row.name.as_str())).collect();
    if candidate.name.is_empty() {
        let free = (number..).map(|number| format!("m{number}")).find(|name| !taken.contains(&name.as_str()));
        return Ok(free.unwrap_or_default());
    }
    let name = Name::parse("a manager", candidate.name)?.as_str().to_owned();
    if taken.contains(&name.as_str()) {
        return Err(Refusal::NameTaken { what: "a manager", name, scope: None });
    }
    Ok(name)
}

fn is_removed(rows: &[skep_ledger::Stored<Manager>], number: u64) -> bool {
    rows.iter().any(|row| row.number == number && row.standing == Standing::Removed)
}

fn removed_row(rows: &[skep_ledger::Stored<Manager>], number: u64, name: &str, since: Timestamp) -> Manager {
    match rows.iter().find(|row| row.number == number) {
        Some(row) => Manager { standing: Standing::Removed, since, ..row.record.clone() },
        None => Manager {
            number,
            name: name.to_owned(),
            role: ManagerRole::Voter,
            standing: Standing::Removed,
            key_hash: vec![],
            replaces: None,
            since,
        },
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use skep_ledger::{Ledger, MemoryLedger, Request, TransactError, transact};

    use super::*;

    async fn rule<A>(
        ledger: &Arc<MemoryLedger>,
        rule: impl FnMut(&mut Tx<'_>) -> Ruling<A> + Send,
    ) -> Result<A, Refusal>
    where
        A: Serialize + serde::de::DeserializeOwned + Send,
    {
        match transact(&**ledger, Request::new(), rule).await {
            Ok(committed) => Ok(committed.answer),
            Err(TransactError::Refused(refusal)) => Err(refusal),
            Err(error) => panic!("{error}"),
        }
    }

    fn wish(uses: u32) -> TokenWish {
        TokenWish { id: "t1".into(), role: ManagerRole::Voter, life: JOIN_TOKEN_LIFE, uses }
    }

    fn founders() -> Vec<(u64, String)> {
        vec![(1, "m1".into()), (2, "m2".into()), (3, "m3".into())]
    }

    fn candidate<'a>(key: &'a [u8], by: Admission<'a>, members: &'a [(u64, String)]) -> Candidate<'a> {
        Candidate { name: "", key_hash: key, by, members }
    }

    #[tokio::test]
    async fn a_token_lets_in_as_many_as_it_says_and_a_repeated_request_is_the_same_one() {
        let ledger = MemoryLedger::new();
        rule(&ledger, |tx| create_token(tx, &wish(2))).await.expect("made");
        let members = founders();
        let admitted = async |key: &[u8]| {
            let candidate = candidate(key, Admission::Token("t1"), &members);
            rule(&ledger, |tx| admit(tx, &candidate)).await.map(|row| (row.number, row.name))
        };
        assert_eq!(admitted(b"a").await.expect("is let in"), (4, "m4".into()));
        assert_eq!(admitted(b"b").await.expect("is let in"), (5, "m5".into()));
        assert_eq!(admitted(b"c").await.expect_err("is used up").code(), "SKP-1501");
        assert_eq!(admitted(b"a").await.expect("is known"), (4, "m4".into()));
    }

    #[tokio::test]
    async fn a_number_is_never_given_twice_not_even_a_removed_founders() {
        let ledger = MemoryLedger::new();
        rule(&ledger, |tx| create_token(tx, &wish(9))).await.expect("made");
        rule(&ledger, |tx| remove(tx, 3, "m3")).await.expect("removed");
        let left = &founders()[..2];
        let four = candidate(b"a", Admission::Token("t1"), left);
        assert_eq!(rule(&ledger, |tx| admit(tx, &four)).await.expect("is let in").number, 4);
        rule(&ledger, |tx| remove(tx, 4, "m4")).await.expect("removed");
        let five = candidate(b"b", Admission::Token("t1"), left);
        assert_eq!(rule(&ledger, |tx| admit(tx, &five)).await.expect("is let in").number, 5);
        let again = rule(&ledger, |tx| admit(tx, &four)).await.expect_err("a removed key does not come back");
        assert_eq!((again.code().number(), again), ("SKP-1502", Refusal::ManagerRemoved { number: 4 }));
    }

    #[tokio::test]
    async fn who_has_lost_its_data_comes_back_under_a_new_number_and_its_old_name_once() {
        let ledger = MemoryLedger::new();
        let members = founders();
        let mut back = candidate(b"a", Admission::Former(2), &members);
        back.name = "m2";
        let row = rule(&ledger, |tx| admit(tx, &back)).await.expect("is let in");
        assert_eq!((row.number, row.name.as_str(), row.replaces), (4, "m2", Some(2)));
        let rows = list(&ledger.view()).expect("readable");
        assert!(rows.iter().any(|row| row.number == 2 && row.standing == Standing::Removed));
        let repeated = rule(&ledger, |tx| admit(tx, &back)).await.expect("is known");
        assert_eq!(repeated.number, 4);
        let thief = candidate(b"b", Admission::Former(2), &members);
        let refused = rule(&ledger, |tx| admit(tx, &thief)).await;
        assert_eq!(refused, Err(Refusal::ManagerRemoved { number: 2 }));
    }

    #[tokio::test]
    async fn a_recovered_cluster_gives_no_number_twice_and_lets_the_left_out_come_back() {
        let ledger = MemoryLedger::new();
        rule(&ledger, |tx| note_members(tx, &founders())).await.expect("noted");
        assert!(!rule(&ledger, |tx| note_members(tx, &founders())).await.expect("again"));
        // Recovered from the first one alone.
        let alone = &founders()[..1];
        rule(&ledger, |tx| create_token(tx, &wish(1))).await.expect("made");
        let new = candidate(b"a", Admission::Token("t1"), alone);
        assert_eq!(rule(&ledger, |tx| admit(tx, &new)).await.expect("is let in").number, 4);
        let mut back = candidate(b"b", Admission::Former(2), alone);
        back.name = "m2";
        let row = rule(&ledger, |tx| admit(tx, &back)).await.expect("is let in");
        assert_eq!((row.number, row.name.as_str()), (5, "m2"));
    }

    #[tokio::test]
    async fn a_name_is_taken_once_and_tokens_have_bounds() {
        let ledger = MemoryLedger::new();
        rule(&ledger, |tx| create_token(tx, &wish(9))).await.expect("made");
        let members = founders();
        let mut twice = candidate(b"a", Admission::Token("t1"), &members);
        twice.name = "m2";
        let refused = rule(&ledger, |tx| admit(tx, &twice)).await.expect_err("is refused");
        assert_eq!(refused.code(), "SKP-1301");
        for wrong in [wish(0), wish(10), TokenWish { life: SignedDuration::from_hours(25), ..wish(1) }] {
            let refused = rule(&ledger, |tx| create_token(tx, &wrong)).await.expect_err("is refused");
            assert_eq!(refused.code(), "SKP-1202", "{wrong:?}");
        }
        rule(&ledger, |tx| revoke_token(tx, "t1")).await.expect("revoked");
        let late = candidate(b"c", Admission::Token("t1"), &members);
        assert_eq!(rule(&ledger, |tx| admit(tx, &late)).await, Err(Refusal::JoinTokenUseless));
    }

    #[tokio::test]
    async fn dead_managers_are_left_alone_until_somebody_wants_it_otherwise() {
        let ledger = MemoryLedger::new();
        assert_eq!(autopilot(&ledger.view()).expect("readable"), Autopilot::default());
        let hasty = Autopilot { remove_dead_after_seconds: Some(5) };
        let never = Autopilot { remove_dead_after_seconds: Some(u64::MAX) };
        for wrong in [hasty, never] {
            rule(&ledger, |tx| set_autopilot(tx, &wrong)).await.expect_err("is refused");
        }
        let calm = Autopilot { remove_dead_after_seconds: Some(600) };
        rule(&ledger, |tx| set_autopilot(tx, &calm)).await.expect("is set");
        assert_eq!(autopilot(&ledger.view()).expect("readable"), calm);
    }
}
