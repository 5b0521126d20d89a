//! Places below a prefix: the engine lists one folder at a time.

use std::collections::VecDeque;

use kh_core::{port::TargetError, rotation::SecretPath};

use crate::{
    VaultStore,
    client::Ask,
    store::{STAGED, odd},
    wire,
};

/// Folders looked into for one list: each is a request.
const FOLDERS_MAX: usize = 1_000;

impl VaultStore {
    pub(crate) async fn list_places(&self, prefix: &str, limit: usize) -> Result<Vec<SecretPath>, TargetError> {
        let start = prefix.rfind('/').map_or("", |slash| prefix.get(..=slash).unwrap_or_default());
        let mut folders = VecDeque::from([start.to_owned()]);
        let mut places = Vec::new();
        let mut looked_at = 0;
        while let Some(folder) = folders.pop_front() {
            looked_at += 1;
            if looked_at > FOLDERS_MAX {
                return Err(TargetError::Unusable(format!("there are more than {FOLDERS_MAX} folders to list")));
            }
            for name in self.names_in(&folder).await? {
                let full = format!("{folder}{name}");
                let meant = full.starts_with(prefix) || (name.ends_with('/') && prefix.starts_with(&full));
                if !meant || name.is_empty() {
                    continue;
                }
                if name.ends_with('/') {
                    folders.push_back(full);
                } else if !full.ends_with(STAGED)
                    // a name that is no place of ours belongs to somebody else
                    && let Ok(place) = full.parse()
                {
                    places.push(place);
                }
                if places.len() >= limit {
                    return Ok(places);
                }
            }
        }
        Ok(places)
    }

    async fn names_in(&self, folder: &str) -> Result<Vec<String>, TargetError> {
        let path = self.below("metadata", folder);
        let ask = Ask { query: "list=true&exclude_deleted=true", ..Ask::get(&path) };
        let reply = self.send(&ask).await?;
        match reply.status {
            404 => Ok(Vec::new()),
            status => wire::keys(&reply.body).filter(|_| status == 200).ok_or_else(|| odd("listing", &path, status)),
        }
    }
}
