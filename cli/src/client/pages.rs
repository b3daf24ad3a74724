//! Lists, which come in pages.

use serde_json::Value;

use super::Client;
use crate::failure::Failure;
use crate::value::text_at;

/// As many in one answer as there may be.
pub(crate) const PAGE: &str = "1000";

impl Client {
    /// Reads a whole list, however many pages it has; as long as there may be, if the query does not say how long.
    pub(crate) async fn list(&self, path: &[&str], query: &[(&str, &str)]) -> Result<Value, Failure> {
        let mut query = query.to_vec();
        if !query.iter().any(|(key, _)| *key == "limit") {
            query.push(("limit", PAGE));
        }
        let mut all = self.get(path, &query).await?;
        let mut cursor = text_at(&all, "/next_cursor");
        while let Some(more) = cursor {
            query.retain(|(key, _)| *key != "cursor");
            let mut next = self.get(path, &[&query[..], &[("cursor", more.as_str())]].concat()).await?;
            let items = next["items"].as_array_mut().map(std::mem::take).unwrap_or_default();
            if let Some(all) = all["items"].as_array_mut() {
                all.extend(items);
            }
            cursor = text_at(&next, "/next_cursor");
        }
        if let Some(all) = all.as_object_mut() {
            all.remove("next_cursor");
        }
        Ok(all)
    }
}
