// SPDX-License-Identifier: Apache-2.0
//! The hands of Thymus: all of Linux, and all of `unsafe`.
//!
//! Sensors turn kernel records into events; the vault keeps versions; `respond` and `recover` act, only through
//! [`perform::perform`], only within an [`scope::Acting`]; the journal is on disk before any effect.

pub mod aside;
pub mod decoy;
pub mod fuzz;
mod glob;
pub mod inventory;
pub mod journal;
pub mod origin;
pub mod package;
pub mod perform;
pub mod probe;
pub mod recover;
pub mod respond;
pub mod scope;
pub mod sense;
pub mod signals;
pub mod system;
pub mod urgent;
pub mod vault;
pub mod warden;
