//! What was made of records, kept for whoever looks next: reading thousands of records is most of what a look takes, and
//! mostly nothing has changed. Only spares reading; what is read is never older than the view.

use std::sync::Arc;

use skep_ledger::{ReadError, Record, Revision, Stored, View};

/// What was made of the records of one kind in one partition, and at which revision they had changed last.
#[derive(Debug, Default, Clone)]
pub(crate) struct Kept<V> {
    changed: Option<Revision>,
    /// As it was then; shared by all who look at it.
    pub(crate) value: Arc<V>,
}

impl<V> Kept<V> {
    /// The same of what the view shows.
    pub(crate) fn read<T: Record>(
        &self,
        view: &View,
        partition: &str,
        make: impl FnOnce(Vec<Stored<T>>) -> V,
    ) -> Result<Kept<V>, ReadError> {
        let changed = Some(view.changed_at::<T>(partition)?);
        let value = match self.changed == changed {
            true => self.value.clone(),
            false => Arc::new(make(view.list::<T>(partition)?)),
        };
        Ok(Kept { changed, value })
    }
}

/// The records, where it does not matter when each was written.
pub(crate) fn records<T>(stored: Vec<Stored<T>>) -> Vec<T> {
    stored.into_iter().map(|stored| stored.record).collect()
}
