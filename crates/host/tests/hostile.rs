// SPDX-License-Identifier: Apache-2.0
//! Hostile bytes at every run of the tests; `make fuzz` tries more of them.

use thymus_host::fuzz::TARGETS;

/// LIMIT: rounds for each target; some seconds together.
const ROUNDS: u64 = 150;

#[test]
fn whatever_the_bytes_no_reader_panics() {
    for target in TARGETS {
        assert_eq!(target.try_all(ROUNDS), None);
    }
}
