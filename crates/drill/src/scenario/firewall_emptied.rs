// SPDX-License-Identifier: Apache-2.0
//! The packet filter's rules are gone: a script flushed them.

use super::shop::{DECLARED, accident, plan as shop};
use super::{Fault, Material, Plan, Scenario};
use crate::random::Random;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "firewall-emptied",
    about: "a script flushes the packet filter's rules, or deletes its tables",
    benign: false,
    plan,
};

const RULES: &str = "#!/usr/sbin/nft -f\nflush ruleset\ntable inet filter {\n\tchain input {\n\t\ttype filter hook input priority filter; policy drop;\n\
    \t\tiif lo accept\n\t\tct state established,related accept\n\t\ttcp dport { 22, 80 } accept\n\t}\n}\n";

fn plan(random: &mut Random, _: Material<'_>) -> Plan {
    let script = random.pick(&[
        "nft flush ruleset",
        "nft delete table inet filter",
        "nft flush chain inet filter input; nft delete chain inet filter input",
    ]);
    let steps = vec![accident("a script empties the packet filter", *script, &[])];
    let fault = Fault { steps, root: "firewall".to_owned(), configuration: DECLARED.to_owned(), ..Fault::default() };
    let mut plan = shop(random, fault);
    plan.planted.push(("/etc/nftables.conf".to_owned(), RULES.to_owned(), 0o755, 0));
    let wants = "[Unit]\nWants=nftables.service\n".to_owned();
    plan.planted.push(("/etc/systemd/system/multi-user.target.d/firewall.conf".to_owned(), wants, 0o644, 0));
    plan.units.push("nftables".to_owned());
    plan
}
