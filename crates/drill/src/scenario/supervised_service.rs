// SPDX-License-Identifier: Apache-2.0
//! A service that no service manager looks after: a script starts it at the boot, and after that only the agent can.

use super::shop::{accident, plan as shop};
use super::{Fault, Material, Plan, Scenario};
use crate::random::Random;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "supervised-service",
    about: "a service that no service manager knows ends, hangs, or cannot be started with the settings that an accident left",
    benign: false,
    plan,
};

/// Starts it and is done; systemd knows nothing of the service itself.
const LAUNCHER: &str = "[Unit]\nDescription=Starts the shop's orders\n[Service]\nType=oneshot\nRemainAfterExit=yes\nKillMode=process\n\
    User=www-data\nStateDirectory=shop\nLogsDirectory=shop\n\
    ExecStart=/usr/bin/setsid --fork /usr/bin/perl /usr/local/bin/shopd\n";

const DECLARED: &str = "\n[[service]]\nunit = \"shopd.service\"\nurl = \"http://127.0.0.1:8080/health\"\n\
    configuration = [\"/etc/shop\"]\nstart = [\"/usr/bin/perl\", \"/usr/local/bin/shopd\"]\nuser = \"www-data\"\n\
    log = \"/var/log/shop/shopd.log\"\n";

const UNIT: &str = "/etc/systemd/system/shopd.service";
const FIND: &str = "pgrep -f '^/usr/bin/perl /usr/local/bin/shopd$'";

fn plan(random: &mut Random, _: Material<'_>) -> Plan {
    let word = random.word(5);
    let (step, root) = match random.below(3) {
        0 => (accident("the service is killed", format!("kill -KILL $({FIND})"), &[]), "shopd.service"),
        1 => (accident("the service hangs", format!("kill -STOP $({FIND})"), &[]), "shopd.service"),
        _ => {
            let settings = "/etc/shop/shop.conf";
            let script = format!("sed -i 's/^page_size = .*/page_size = {word}/' {settings}; kill -TERM $({FIND})");
            (
                accident("a script writes a wrong value into the settings, and ends the service", script, &[settings]),
                settings,
            )
        }
    };
    let fault =
        Fault { steps: vec![step], root: root.to_owned(), configuration: DECLARED.to_owned(), ..Fault::default() };
    let mut plan = shop(random, fault);
    for (path, content, ..) in &mut plan.planted {
        if path == UNIT {
            LAUNCHER.clone_into(content);
        }
    }
    // The administrator has no service manager to ask for it.
    plan.benign.retain(|step| !step.script.contains("systemctl restart shopd"));
    plan
}
