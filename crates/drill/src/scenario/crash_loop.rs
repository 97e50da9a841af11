// SPDX-License-Identifier: Apache-2.0
//! A service that ends as soon as it is started, again and again: its settings or its program were damaged.

use super::shop::{DECLARED, accident, plan as shop};
use super::{Fault, Material, Plan, Scenario};
use crate::random::Random;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "crash-loop",
    about: "an accident damages the settings or the program of a service, which then ends whenever it is started",
    benign: false,
    plan,
};

fn plan(random: &mut Random, _: Material<'_>) -> Plan {
    let word = random.word(5);
    let steps = match random.below(2) {
        0 => accident(
            "a script writes a wrong value into the settings, and the service is restarted",
            format!("sed -i 's/^page_size = .*/page_size = {word}/' /etc/shop/shop.conf; systemctl restart shopd"),
            &["/etc/shop/shop.conf"],
        ),
        _ => accident(
            "a broken build of the program is put in place, and the service is restarted",
            format!(
                "printf '#!/usr/bin/perl\\nuse strict;\\n{word} unfinished(;\\n' >/usr/local/bin/shopd; systemctl restart shopd"
            ),
            &["/usr/local/bin/shopd"],
        ),
    };
    let root = format!("`{}`", steps.1.paths.concat());
    shop(random, Fault { steps: vec![steps], root, configuration: DECLARED.to_owned(), ..Fault::default() })
}
