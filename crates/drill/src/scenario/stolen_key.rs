// SPDX-License-Identifier: Apache-2.0
//! Somebody outside has alice's key, comes from a host that nobody else comes from, and does what `persistence` does.

use super::{Knocks, Material, Plan, Scenario, persistence};
use crate::outside::host;
use crate::random::Random;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "stolen-key",
    about: "a stolen ssh key from a host outside, then all of `persistence`; the way back is closed",
    benign: false,
    plan,
};

fn plan(random: &mut Random, material: Material<'_>) -> Plan {
    let plan = persistence::plan(random, material);
    let source = host(u8::try_from(random.between(60, 99)).unwrap_or(60));
    Plan { source: source.to_string(), knocks: Some(Knocks { source, count: 0, called: Vec::new() }), ..plan }
}
