// SPDX-License-Identifier: Apache-2.0
//! A service that runs and listens, and answers nobody.

use super::shop::{DECLARED, accident, plan as shop};
use super::{Fault, Material, Plan, Scenario};
use crate::random::Random;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "wedged-service",
    about: "a service listens and does not answer any more: it hangs, or all of it is stopped",
    benign: false,
    plan,
};

fn plan(random: &mut Random, _: Material<'_>) -> Plan {
    let signal = random.pick(&["USR1", "STOP"]);
    let script = format!("kill -{signal} $(systemctl show -p MainPID --value shopd)");
    let steps = vec![accident("the shop's service stops answering", script, &[])];
    let root = "shopd.service".to_owned();
    shop(random, Fault { steps, root, configuration: DECLARED.to_owned(), ..Fault::default() })
}
