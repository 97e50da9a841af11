// SPDX-License-Identifier: Apache-2.0
//! The program of a service is deleted, while it runs or before it is started again; the vault has it, or only the archive
//! of the package that ships it.

use super::shop::{DECLARED, accident, plan as shop};
use super::{Fault, Material, Plan, Scenario};
use crate::random::Random;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "deleted-binary",
    about: "the program of nginx or of the shop's service is deleted, and the service perhaps restarted",
    benign: false,
    plan,
};

fn plan(random: &mut Random, _: Material<'_>) -> Plan {
    let (unit, path) = *random.pick(&[("nginx", "/usr/sbin/nginx"), ("shopd", "/usr/local/bin/shopd")]);
    let script = match random.below(2) {
        0 => format!("rm {path}; systemctl restart {unit}; true"),
        _ => format!("rm {path}"),
    };
    let steps = vec![accident("a cleaning script deletes a program", script, &[path])];
    let root = format!("removal of `{path}`");
    let (configuration, archived) = match random.below(2) {
        0 => (DECLARED.to_owned(), Vec::new()),
        _ => (format!("{DECLARED}\n[protect]\nexclude = [\"{path}\"]\n"), vec![path.to_owned()]),
    };
    Plan { archived, ..shop(random, Fault { steps, root, configuration, ..Fault::default() }) }
}
