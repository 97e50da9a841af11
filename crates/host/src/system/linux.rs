// SPDX-License-Identifier: Apache-2.0
//! The door onto a real Linux.

use crate::scope::Acting;
use std::path::{Path, PathBuf};

/// Acts on one scope, and only there.
#[derive(Debug)]
pub struct Linux<'a> {
    acting: Acting<'a>,
    keep: PathBuf,
}

impl<'a> Linux<'a> {
    /// `keep`: the directory of the agent's state that holds what was moved away.
    #[must_use]
    pub fn new(acting: Acting<'a>, keep: &Path) -> Self {
        Self { acting, keep: keep.to_owned() }
    }

    #[must_use]
    pub fn acting(&self) -> Acting<'a> {
        let _ = &self.keep;
        self.acting
    }
}
