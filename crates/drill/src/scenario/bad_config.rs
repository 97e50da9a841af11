// SPDX-License-Identifier: Apache-2.0
//! The administrator saves a wrong edit and restarts the service: it is proposed back to him, or taken back where an
//! operator's policy says so.

use super::shop::{DECLARED, mistake, plan as shop};
use super::{Fault, Material, Plan, Scenario};
use crate::random::Random;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "bad-config",
    about: "a wrong edit by the administrator keeps nginx, sshd or the shop's service from starting",
    benign: false,
    plan,
};

/// Lets such an edit be taken back without asking.
const POLICY: &str = "@id(\"take-back-what-broke-it\")\npermit (principal in Mode::\"autonomous\", action == Action::\"restore_file\", resource)\n\
    when { context.confirmed && context.failure && context.authorised_change };\n";

fn plan(random: &mut Random, _: Material<'_>) -> Plan {
    let word = random.word(6);
    let (title, script, path) = match random.below(3) {
        0 => (
            "the administrator mistypes a word of the web server's configuration, and restarts it",
            format!(
                "sudo sed -i 's/index index.html;/{word} index.html/' /etc/nginx/sites-available/shop; sudo systemctl restart nginx; true"
            ),
            "/etc/nginx/sites-available/shop",
        ),
        1 => (
            "the administrator mistypes an option of sshd, and restarts it",
            format!(
                "echo 'PermitRootLogn {word}' | sudo tee -a /etc/ssh/sshd_config >/dev/null; sudo systemctl restart ssh; true"
            ),
            "/etc/ssh/sshd_config",
        ),
        _ => (
            "the administrator mistypes a setting of the shop, and restarts its service",
            format!(
                "sudo sed -i 's/^page_size = 20/page_size = {word}/' /etc/shop/shop.conf; sudo systemctl restart shopd; true"
            ),
            "/etc/shop/shop.conf",
        ),
    };
    let asks = random.below(2) == 0;
    let policy = if asks { String::new() } else { POLICY.to_owned() };
    let steps = vec![mistake(title, script, &[path])];
    let root = format!("edit of `{path}`");
    shop(random, Fault { steps, root, asks, configuration: DECLARED.to_owned(), policy })
}
