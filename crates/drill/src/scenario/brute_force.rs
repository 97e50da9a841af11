// SPDX-License-Identifier: Apache-2.0
//! An intruder outside tries key after key at sshd until one fits, and then does what `persistence` does.

use super::{Knocks, Material, Plan, Scenario, persistence};
use crate::outside::host;
use crate::random::Random;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "brute-force",
    about: "many keys tried at sshd from outside until one fits, then all of `persistence`; the way back is closed",
    benign: false,
    plan,
};

fn plan(random: &mut Random, material: Material<'_>) -> Plan {
    let plan = persistence::plan(random, material);
    let source = host(u8::try_from(random.between(60, 99)).unwrap_or(60));
    let count = u32::try_from(random.between(12, 18)).unwrap_or(12);
    Plan { source: source.to_string(), knocks: Some(Knocks { source, count, called: Vec::new() }), ..plan }
}
