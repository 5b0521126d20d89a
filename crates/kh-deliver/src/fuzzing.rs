//! Private parsers, shown to the fuzz targets alone: this module exists under `--cfg fuzzing` only.

use crate::{github, kubernetes};

/// An API server's answer with a workload, as each kind of workload.
pub fn workload(answer: &[u8]) {
    let Ok(object) = serde_json::from_slice(answer) else { return };
    kubernetes::look_at(&object);
}

/// GitHub's answer with the key to seal a secret to.
pub fn sealing_key(answer: &[u8]) {
    drop(github::sealing_key(answer));
}
