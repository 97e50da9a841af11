// SPDX-License-Identifier: Apache-2.0
//! What people do beside a test: little, of many kinds, over in a few seconds.

use crate::random::Random;
use crate::scenario::{Actor, Plan, Step, pace, public_key, step};

pub(super) fn plan(random: &mut Random) -> Plan {
    let mut benign = steps(random);
    random.shuffle(&mut benign);
    pace(&mut benign, random, 250);
    Plan {
        benign,
        units: crate::scenario::units(),
        pages: vec![80],
        source: super::trial::SOURCE.to_owned(),
        logins: ["ops", "alice", "bob"]
            .map(|user| (user.to_owned(), vec!["127.0.0.0/28".to_owned()]))
            .into_iter()
            .chain([("root".to_owned(), Vec::new())])
            .collect(),
        ..Plan::default()
    }
}

fn steps(random: &mut Random) -> Vec<Step> {
    let key = public_key(random, "ops@console");
    let minute = random.below(60);
    vec![
        step(
            Actor::Ops,
            "the administrator adds a key to his account",
            format!("echo '{key}' >>~/.ssh/authorized_keys"),
            &["/home/ops/.ssh/authorized_keys"],
        ),
        step(
            Actor::Ops,
            "the administrator adds a cron job",
            format!("echo '{minute} 4 31 2 * root true' | sudo tee /etc/cron.d/stock >/dev/null"),
            &["/etc/cron.d/stock"],
        ),
        step(
            Actor::Ops,
            "the administrator changes the shop's settings and reloads the web server",
            "sudo sed -i 's/page_size = 20/page_size = 25/' /etc/shop/shop.conf && sudo sed -i 's/expires 10m/expires 20m/' \
             /etc/nginx/sites-available/shop && sudo nginx -t -q && sudo systemctl reload nginx",
            &["/etc/shop/shop.conf", "/etc/nginx/sites-available/shop"],
        ),
        step(
            Actor::Ops,
            "the administrator commits a change",
            "cd ~/infra && echo 'cron: stock' >>services && GIT_AUTHOR_DATE=2026-01-06T09:00:00Z GIT_COMMITTER_DATE=2026-01-06T09:00:00Z \
             git commit -qam 'stock'",
            &["/home/ops/infra/services"],
        ),
        step(Actor::Alice, "alice writes a note", "echo 'Order paper.' >>~/notes.txt", &["/home/alice/notes.txt"]),
        step(
            Actor::Alice,
            "alice archives her notes",
            "mkdir -p ~/archive && tar --mtime=@0 -cf ~/archive/notes.tar notes.txt && cd ~/archive && tar -tf notes.tar >/dev/null && rm notes.tar",
            &[],
        ),
        step(
            Actor::Bob,
            "bob changes his own crontab and profile",
            format!("(crontab -l; echo '{minute} 6 31 2 * true') | crontab -; echo 'export N=1' >>~/.profile"),
            &["/var/spool/cron/crontabs/bob", "/home/bob/.profile"],
        ),
        step(
            Actor::Bob,
            "bob looks at the site",
            "exec 3<>/dev/tcp/127.0.0.1/80 && printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3 && head -c 12 <&3 >/dev/null; exec 3<&-",
            &[],
        ),
    ]
}
