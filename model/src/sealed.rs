//! A secret as it may be written down: sealed with the managers' key, which the model does not have.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An envelope with a secret in it. What it is for is part of how it is sealed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sealed(Vec<u8>);

impl Sealed {
    /// What a sealing key has made.
    pub fn new(envelope: Vec<u8>) -> Sealed {
        Sealed(envelope)
    }

    /// For who has the key.
    pub fn envelope(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "(sealed, {} bytes)", self.0.len())
    }
}
