// SPDX-License-Identifier: Apache-2.0
//! What faults are put into: the shop's own small service, and people who work beside it.

use super::{Actor, Fault, Plan, Step, pace, step};
use crate::random::Random;
use std::time::Duration;

/// Services need so long to be known as well; an accident waits for that.
pub(super) const KNOWN_WELL: Duration = Duration::from_secs(12);

/// Takes orders at 127.0.0.1:8080; each answer is written down first. Signal USR1 wedges it: it listens, and is silent.
const PROGRAM: &str = r#"#!/usr/bin/perl
use strict;
use warnings;
use IO::Socket::INET;
my %c;
open(my $f, '<', '/etc/shop/shop.conf') or die "cannot read /etc/shop/shop.conf: $!\n";
while (<$f>) { $c{$1} = $2 if /^(\w+)\s*=\s*(.*?)\s*$/ }
close $f;
my $size = $c{page_size} // '';
die "/etc/shop/shop.conf: page_size: expected a number, found `$size`\n" unless $size =~ /^\d+$/;
my $wedged = 0;
$SIG{USR1} = sub { $wedged = 1 };
$SIG{PIPE} = 'IGNORE';
my $s = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => 8080, Listen => 32, ReuseAddr => 1)
    or die "cannot listen: $!\n";
while (1) {
    my $k = $s->accept or next;
    sleep 1 while $wedged;
    while (<$k>) { last if /^\r?\n$/ }
    my $good = 0;
    if (open(my $o, '>', '/var/lib/shop/order.new')) {
        print $o 'o' x 8192;
        $good = close($o) && rename('/var/lib/shop/order.new', '/var/lib/shop/order');
    }
    print $k $good ? "HTTP/1.0 200 OK\r\n\r\nok\n" : "HTTP/1.0 500 No room\r\n\r\n$!\n";
    close $k;
}
"#;

const UNIT: &str = "[Unit]\nDescription=The shop's orders\n[Service]\nUser=www-data\nStateDirectory=shop\nLogsDirectory=shop\n\
    ExecStart=/usr/bin/perl /usr/local/bin/shopd\nRestart=on-failure\nRestartSec=200ms\nTimeoutStopSec=5\n";

/// Declares it to the agent.
pub(super) const DECLARED: &str = "\n[[service]]\nunit = \"shopd.service\"\nurl = \"http://127.0.0.1:8080/health\"\n\
    configuration = [\"/etc/shop\"]\n";

/// A twin with the shop's service, people at work, and a fault.
pub(super) fn plan(random: &mut Random, fault: Fault) -> Plan {
    let planted = [
        ("/usr/local/bin/shopd", PROGRAM, 0o755),
        ("/etc/systemd/system/shopd.service", UNIT, 0o644),
        ("/etc/systemd/system/multi-user.target.d/shop.conf", "[Unit]\nWants=shopd.service\n", 0o644),
    ];
    let mut benign = work(random);
    random.shuffle(&mut benign);
    pace(&mut benign, random, 1_500);
    Plan {
        planted: planted.map(|(path, text, mode)| (path.to_owned(), text.to_owned(), mode, 0)).into(),
        decoys: true,
        source: String::new(),
        benign,
        units: ["nginx", "ssh", "cron", "rsyslog", "shopd"].map(str::to_owned).into(),
        pages: vec![80, 8080],
        fault: Some(fault),
        ..Plan::default()
    }
}

fn work(random: &mut Random) -> Vec<Step> {
    let word = random.word(6);
    vec![
        step(Actor::Alice, "alice writes a note", format!("echo {word} >>~/notes.txt"), &["/home/alice/notes.txt"]),
        step(
            Actor::Bob,
            "bob changes his profile",
            format!("echo 'export N={word}' >>~/.profile"),
            &["/home/bob/.profile"],
        ),
        step(
            Actor::Ops,
            "the administrator changes a page and the mail server's name",
            format!(
                "sudo sed -i 's/five/{word}/' /var/www/shop/about.html && \
                 sudo sed -i 's/^server = .*/server = {word}.shop.example/' /etc/shop/shop.conf && sudo systemctl restart shopd"
            ),
            &["/var/www/shop/about.html", "/etc/shop/shop.conf"],
        ),
        step(
            Actor::Ops,
            "the administrator looks at the services, and reloads one",
            // The service's first order: it writes it down.
            "for n in 1 2 3 4 5 6 7 8 9; do sleep 0.3; { exec 3<>/dev/tcp/127.0.0.1/8080; } 2>/dev/null && break; done; \
             printf 'GET /health HTTP/1.0\\r\\n\\r\\n' >&3 && cat <&3 && exec 3>&- && sudo systemctl reload nginx",
            &[],
        ),
    ]
}

/// Something that happens by itself.
pub(super) fn accident(title: &str, script: impl Into<String>, paths: &[&str]) -> (Option<Actor>, Step) {
    let step = step(Actor::Ops, title, script, paths);
    (None, Step { pause: KNOWN_WELL, ..step })
}

/// Something that the administrator does.
pub(super) fn mistake(title: &str, script: impl Into<String>, paths: &[&str]) -> (Option<Actor>, Step) {
    let step = step(Actor::Ops, title, script, paths);
    (Some(Actor::Ops), Step { pause: KNOWN_WELL, ..step })
}
