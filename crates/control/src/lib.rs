// SPDX-License-Identifier: Apache-2.0
//! The voice of Thymus: how people and tools read what happened and say what they want.
//!
//! All async and all HTTP of the agent live here, in one thread of their own. Readers get an immutable [`View`] that
//! the agent publishes; what a person says leaves as a [`Request`] through a bounded queue. Nothing in here can act.
#![forbid(unsafe_code)]

pub mod api;
pub mod client;
pub mod server;
pub mod view;

pub use api::{Answer, ControlCommand, Request, UndoTarget};
pub use client::Client;
pub use server::Server;
pub use view::{Published, View};
