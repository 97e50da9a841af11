// SPDX-License-Identifier: Apache-2.0
//! Old debug logs of a service fill the disk, so that it cannot write any more.

use super::shop::{DECLARED, accident, plan as shop};
use super::{Fault, Material, Plan, Scenario};
use crate::random::Random;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "full-disk",
    about: "old debug logs of a service fill the disk, and it cannot write any more",
    benign: false,
    plan,
};

fn plan(random: &mut Random, _: Material<'_>) -> Plan {
    let first = random.between(200, 900);
    // As the service's own user: root has a reserve.
    let script = format!(
        "setpriv --reuid www-data --regid www-data --clear-groups sh -c 'cd /var/log/shop && fallocate -l {first}M debug.log.2 && \
         while a=$(df --output=avail -B1 . | tail -1) && [ $a -gt 65536 ]; do fallocate -l $((a - 32768)) debug.log.1.$a || break; done; \
         while head -c 4096 /dev/zero >>debug.log.3; do :; done'; true"
    );
    let steps =
        vec![accident("debug logs fill the disk", script, &["/var/log/shop/debug.log.2", "/var/log/shop/debug.log.3"])];
    let configuration = format!("\n[health]\nfreeable = [\"/var/log/shop/debug.log.*\"]\n{DECLARED}");
    shop(random, Fault { steps, root: "disk /".to_owned(), configuration, ..Fault::default() })
}
