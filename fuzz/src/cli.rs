// SPDX-License-Identifier: Apache-2.0
//! What the configuration's messages need of the command line.

#[path = "../../src/cli/show.rs"]
pub(crate) mod show;
