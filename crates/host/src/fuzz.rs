// SPDX-License-Identifier: Apache-2.0
//! What of the hands is tried with hostile bytes; see `thymus_engine::fuzz`.

use crate::inventory;
use crate::journal::{self, ring};
use crate::package;
use crate::respond::account;
use crate::sense;
use crate::vault;
use crate::warden::table;
pub use thymus_engine::fuzz::Target;

/// All of this crate.
pub const TARGETS: &[Target] = &[
    Target { name: "sense_record", run: sense::wire::fuzz_record, seeds: sense::wire::record_seeds },
    Target { name: "sense_name_events", run: sense::wire::fuzz_name_events, seeds: sense::wire::name_event_seeds },
    Target { name: "sense_text", run: sense::fuzz_text, seeds: sense::text_seeds },
    Target { name: "log_line", run: sense::log::fuzz, seeds: sense::log::seeds },
    Target { name: "vault_log", run: vault::fuzz_log, seeds: vault::log_seeds },
    Target { name: "vault_pack", run: vault::fuzz_pack, seeds: vault::pack_seeds },
    Target { name: "journal_segment", run: journal::fuzz::segment, seeds: journal::fuzz::segment_seeds },
    Target { name: "journal_anchor", run: journal::fuzz::anchor, seeds: || vec![vec![0; 128]] },
    Target { name: "journal_checkpoint", run: journal::fuzz::checkpoint, seeds: journal::fuzz::checkpoint_seeds },
    Target { name: "reflex_ring", run: ring::fuzz_slot, seeds: ring::slot_seeds },
    Target { name: "inventory", run: inventory::fuzz, seeds: inventory::seeds },
    Target { name: "package_archive", run: package::archive::fuzz, seeds: package::archive::seeds },
    Target { name: "package_records", run: package::records::fuzz, seeds: package::records::seeds },
    Target { name: "accounts", run: account::fuzz, seeds: account::seeds },
    Target { name: "leases", run: table::fuzz_leases, seeds: table::lease_seeds },
];
