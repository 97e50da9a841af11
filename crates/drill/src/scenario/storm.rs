// SPDX-License-Identifier: Apache-2.0
//! Five hundred alarms at once and no attack: a rule that is wrong about a tool must not take the host down with it.

use super::persistence::people;
use super::{Material, Names, Plan, Scenario, pace, units};
use crate::random::Random;
use crate::storm::Storm;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "storm",
    about: "no attack: thirty-two people start a tool that is taken for one, sixteen times each, at the same moment",
    benign: true,
    plan,
};

fn plan(random: &mut Random, _: Material<'_>) -> Plan {
    let mut names = Names::new(random);
    let mut units = units();
    let mut benign = people(random, &mut names, &mut units);
    random.shuffle(&mut benign);
    pace(&mut benign, random, 300);
    Plan {
        decoys: true,
        source: "127.0.0.66".to_owned(),
        benign,
        units,
        storm: Some(Storm { sessions: 32, alarms: 16 }),
        ..Plan::default()
    }
}
