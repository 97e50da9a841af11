// SPDX-License-Identifier: Apache-2.0
//! Is one set of policies looser than another? Both are asked everything that can be asked.
//!
//! Input: two sets of policies. Output: whether anything is permitted or asked by the new one that the old one asked or
//! denied, and the other way round, each with an example. Exhaustive: every action, mode and flag of the schema; one path and
//! unit for each way in which the texts of both sets can tell paths apart; numbers of targets on both sides of every number
//! in them. Where that is more than can be asked, the answer says so.

use super::pattern::{Part, Pattern, Shape, representatives};
use super::policy::Said;
use super::question::{ACTIONS, FLAGS, Names, Question};
use super::{Policies, TARGETS_MAX};
use crate::incident::Verdict;
use crate::input::Mode;
use crate::network::Network;
use crate::path::HostPath;
use serde::Serialize;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// LIMIT: questions that both sets are asked, some seconds of work. What is beyond it is said to be not asked.
pub const QUESTIONS_MAX: usize = 200_000;

const MODES: [Mode; 3] = [Mode::Guarded, Mode::Autonomous, Mode::Observe];
/// The place in [`FLAGS`] of those that depend on each other: what is merged is prepared.
const PREPARED: usize = 4;
const MERGED: usize = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Relation {
    Same,
    /// Something is asked or denied that was permitted or asked, and nothing the other way round.
    Tighter,
    Looser,
    Both,
}

/// A question that two sets answer differently.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    pub question: Question,
    pub old: Verdict,
    pub new: Verdict,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Comparison {
    /// How many questions both were asked.
    pub asked: usize,
    /// Of these, answered more loosely and more tightly by the new one.
    pub looser: usize,
    pub tighter: usize,
    /// The first of each, those with the fewest words first.
    pub looser_example: Option<Difference>,
    pub tighter_example: Option<Difference>,
    /// What was not asked, in words; empty when everything was.
    pub cut: Vec<String>,
}

impl Comparison {
    #[must_use]
    pub const fn relation(&self) -> Relation {
        match (self.looser, self.tighter) {
            (0, 0) => Relation::Same,
            (0, _) => Relation::Tighter,
            (_, 0) => Relation::Looser,
            (..) => Relation::Both,
        }
    }
}

/// Asks both.
#[must_use]
pub fn compare(old: &Policies, new: &Policies) -> Comparison {
    let mut words = Words::default();
    for policies in [old, new] {
        policies.json().iter().for_each(|json| words.collect(json));
    }
    let mut comparison = Comparison::default();
    let space = words.space(&mut comparison.cut);
    let count = space.len() * MODES.len() * flags().len();
    if count > QUESTIONS_MAX {
        comparison.cut.push(format!("{} of {count} questions", count - QUESTIONS_MAX));
    }
    let every = space.iter().flat_map(|question| {
        flags().into_iter().flat_map(move |flags| MODES.map(|mode| Question { mode, flags, ..question.clone() }))
    });
    for question in every.take(QUESTIONS_MAX) {
        let [old, new] = [old, new].map(|policies| question.ask(|request| policies.decide(request)));
        comparison.asked += 1;
        if old.weight() == new.weight() {
            continue;
        }
        let verdict = |said: Said| Verdict { decision: said.decision, reasons: said.reasons };
        let (count, example) = match new.weight() < old.weight() {
            true => (&mut comparison.looser, &mut comparison.looser_example),
            false => (&mut comparison.tighter, &mut comparison.tighter_example),
        };
        *count += 1;
        example.get_or_insert_with(|| Difference { question, old: verdict(old), new: verdict(new) });
    }
    comparison
}

/// Every combination of flags that can be, those with the fewest first.
fn flags() -> Vec<[bool; FLAGS.len()]> {
    let mut all: Vec<[bool; FLAGS.len()]> =
        (0_u8..1 << FLAGS.len()).map(|bits| std::array::from_fn(|at| bits >> at & 1 == 1)).collect();
    all.retain(|flags| flags[PREPARED] || !flags[MERGED]);
    all.sort_by_key(|flags| flags.iter().filter(|holds| **holds).count());
    all
}

/// What policies compare with.
#[derive(Debug, Default)]
struct Words {
    texts: BTreeSet<Pattern>,
    numbers: BTreeSet<i64>,
    /// Numbers are computed with, so that those around the literals do not tell all apart.
    arithmetic: bool,
}

impl Words {
    /// Out of a policy as JSON, whose form Cedar documents ("JSON policy format").
    fn collect(&mut self, policy: &serde_json::Value) {
        let mut pending = vec![policy];
        while let Some(value) = pending.pop() {
            match value {
                serde_json::Value::Array(values) => pending.extend(values),
                serde_json::Value::Object(members) => {
                    for (key, value) in members {
                        match (key.as_str(), value) {
                            ("Value", serde_json::Value::String(text)) => {
                                self.texts.insert(text.chars().map(Part::One).collect());
                            }
                            ("Value", serde_json::Value::Number(number)) => self.numbers.extend(number.as_i64()),
                            ("pattern", serde_json::Value::Array(parts)) => {
                                self.texts.insert(parts.iter().flat_map(part).collect());
                            }
                            ("+" | "-" | "*" | "neg", value) => {
                                self.arithmetic = true;
                                pending.push(value);
                            }
                            (_, value) => pending.push(value),
                        }
                    }
                }
                serde_json::Value::Null
                | serde_json::Value::Bool(_)
                | serde_json::Value::Number(_)
                | serde_json::Value::String(_) => {}
            }
        }
    }

    /// One on each side of every border of a network that policies name: between two borders no policy tells addresses
    /// apart, but for what Cedar knows of them by itself.
    fn addresses(&self) -> BTreeSet<IpAddr> {
        let text = |pattern: &Pattern| {
            let one = |part: &Part| if let Part::One(one) = part { Some(*one) } else { None };
            pattern.iter().map(one).collect::<Option<String>>()
        };
        let networks = self.texts.iter().filter_map(text).filter_map(|text| text.parse::<Network>().ok());
        let kinds: [IpAddr; 6] = [
            Ipv4Addr::new(198, 51, 100, 7).into(),
            Ipv4Addr::LOCALHOST.into(),
            Ipv4Addr::new(224, 0, 0, 1).into(),
            Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7).into(),
            Ipv6Addr::LOCALHOST.into(),
            Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1).into(),
        ];
        networks.flat_map(Network::borders).chain(kinds).collect()
    }

    /// Every question but for mode and flags, and into `cut` what is left out.
    fn space(&self, cut: &mut Vec<String>) -> Vec<Question> {
        // Control characters, and bytes that are no text, stand in a path's text with a backslash.
        let escaped = |pattern: &Pattern| pattern.contains(&Part::One('\\'));
        let (paths, all_paths) = representatives(&self.texts, Shape::Path);
        let (units, all_units) = representatives(&self.texts, Shape::Unit);
        if !all_paths || self.texts.iter().any(escaped) {
            cut.push("some kinds of paths: the patterns tell too many apart".to_owned());
        }
        if !all_units {
            cut.push("some kinds of units: the patterns tell too many apart".to_owned());
        }
        if self.arithmetic {
            cut.push("some numbers of targets: a policy computes with them".to_owned());
        }
        let around =
            self.numbers.iter().flat_map(|number| [number.saturating_sub(1), *number, number.saturating_add(1)]);
        let mut targets: BTreeSet<usize> = around.filter_map(|number| usize::try_from(number).ok()).collect();
        targets.retain(|number| (1..=TARGETS_MAX).contains(number));
        targets.extend([1, TARGETS_MAX]);
        let mut space = Vec::new();
        for question in ACTIONS.iter().filter_map(|(name, _)| Question::about(name)) {
            match question.names() {
                Names::Processes | Names::Paths => {
                    space.extend(targets.iter().map(|targets| Question { targets: *targets, ..question.clone() }));
                }
                Names::Path => {
                    let paths = paths.iter().filter_map(|path| HostPath::from_text(path));
                    space.extend(paths.map(|path| Question { path: Some(path), ..question.clone() }));
                }
                Names::Address => {
                    let addresses = self.addresses();
                    let about = |address: IpAddr| Question { address: Some(address), ..question.clone() };
                    space.extend(addresses.into_iter().map(about));
                }
                Names::Account | Names::Host => space.push(question),
                Names::Unit => {
                    space.extend(units.iter().map(|unit| Question { unit: Some(unit.clone()), ..question.clone() }));
                }
            }
        }
        space
    }
}

fn part(part: &serde_json::Value) -> Vec<Part> {
    match part.get("Literal").and_then(serde_json::Value::as_str) {
        Some(text) => text.chars().map(Part::One).collect(),
        None => vec![Part::Any],
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn load(texts: &[&str]) -> Policies {
        let name = |(at, text): (usize, &&str)| (format!("{at}.cedar"), (*text).to_owned());
        Policies::load(&texts.iter().enumerate().map(name).collect::<Vec<_>>()).unwrap()
    }

    /// What the new one is, with the example of the direction that is named first.
    fn compared(old: &[&str], new: &[&str]) -> (Relation, String) {
        let comparison = compare(&load(old), &load(new));
        let example = comparison.looser_example.as_ref().or(comparison.tighter_example.as_ref());
        let told =
            example.map(|found| format!("{}: {:?}, {:?}", found.question, found.old.decision, found.new.decision));
        assert_eq!(comparison.cut, Vec::<String>::new());
        (comparison.relation(), told.unwrap_or_default())
    }

    fn looser(old: &[&str], new: &[&str]) -> String {
        let (relation, example) = compared(old, new);
        assert_eq!(relation, Relation::Looser, "{example}");
        example
    }

    const ASK: &str = "@ask(\"?\") permit (principal, action, resource) when { context.confirmed };";
    const GUARDED: &str = "permit (principal in Mode::\"guarded\", action == Action::\"restore_file\", resource)
        when { context.confirmed };";

    #[test]
    fn a_set_is_the_same_as_itself_however_it_is_written() {
        assert_eq!(compared(&[ASK, GUARDED], &[GUARDED, ASK]).0, Relation::Same);
        let doubled = "permit (principal in Mode::\"autonomous\", action == Action::\"restore_file\", resource)
            when { context.confirmed && context.targets == 1 };";
        assert_eq!(compared(&[ASK, GUARDED], &[GUARDED, ASK, doubled]).0, Relation::Same);
    }

    #[test]
    fn a_permit_that_was_added_is_looser_and_the_example_says_what_was_asked_before() {
        assert_eq!(looser(&[ASK], &[ASK, GUARDED]), "`restore_file` of `/x`, mode guarded, confirmed: Ask, Permit");
        assert_eq!(compared(&[ASK, GUARDED], &[ASK]).0, Relation::Tighter);
        assert_eq!(looser(&[], &[ASK]), "`end_session` of 1, mode guarded, confirmed: Deny, Ask");
    }

    #[test]
    fn a_forbid_that_was_removed_is_looser_where_it_forbade() {
        let forbid =
            "forbid (principal, action, resource) when { context has path && context.path like \"/var/www/*\" };";
        let example = looser(&[ASK, GUARDED, forbid], &[ASK, GUARDED]);
        assert_eq!(example, "`load_firewall` of `/var/www/x`, mode guarded, confirmed: Deny, Ask");
        // A narrower pattern, and one path.
        let narrower = forbid.replace("/var/www/*", "/var/www/*.html");
        assert!(looser(&[ASK, forbid], &[ASK, &narrower]).contains("`/var/www/x`"));
        let one = forbid.replace("like \"/var/www/*\"", "== \"/var/www/index\"");
        let but_one = "forbid (principal, action, resource) when
            { context has path && context.path like \"/var/www/*\" && context.path != \"/var/www/index\" };";
        assert!(looser(&[ASK, forbid], &[ASK, but_one]).contains("`/var/www/index`"));
        assert_eq!(compared(&[ASK, forbid], &[ASK, but_one, &one]).0, Relation::Same);
    }

    #[test]
    fn an_unless_that_was_changed_is_looser_where_it_says_more() {
        let forbid = |unless: &str| format!("forbid (principal, action, resource) unless {{ {unless} }};");
        let (before, after) = (forbid("context.confirmed"), forbid("context.confirmed || context.failure"));
        let all = "permit (principal, action, resource);";
        let example = looser(&[all, &before], &[all, &after]);
        assert_eq!(example, "`end_session` of 1, mode guarded, failure: Deny, Permit");
        let (few, more) = (forbid("context.targets < 10"), forbid("context.targets <= 10"));
        assert!(looser(&[all, &few], &[all, &more]).starts_with("`end_session` of 10, "));
        let unit = |name: &str| forbid(&format!("context has unit && context.unit == \"{name}.service\""));
        let (relation, example) = compared(&[all, &unit("a")], &[all, &unit("b")]);
        assert_eq!(relation, Relation::Both);
        assert!(example.starts_with("`reload_service` of `b.service`"), "{example}");
    }

    #[test]
    fn a_policy_that_errors_counts_as_a_no_so_that_mending_it_is_looser() {
        let error = "forbid (principal, action, resource) when { 9223372036854775807 + context.targets < 0 };";
        let comparison = compare(&load(&[ASK, error]), &load(&[ASK]));
        assert_eq!(comparison.relation(), Relation::Looser);
        let example = comparison.looser_example.unwrap();
        assert!(example.old.reasons[0].contains("error counts as no"), "{:?}", example.old);
        assert_eq!(comparison.cut, ["some numbers of targets: a policy computes with them"]);
        assert_eq!(compare(&load(&[ASK]), &load(&[ASK, error])).relation(), Relation::Tighter);
    }

    #[test]
    fn a_network_that_is_no_longer_forbidden_is_looser_in_it_and_nowhere_else() {
        let forbid = |network: &str| {
            format!(
                "forbid (principal, action, resource) when
                {{ context has address && context.address.isInRange(ip(\"{network}\")) }};"
            )
        };
        let (wide, narrow) = (forbid("10.0.0.0/8"), forbid("10.1.0.0/16"));
        assert_eq!(looser(&[ASK, &wide], &[ASK]), "`filter_traffic` of 10.0.0.0, mode guarded, confirmed: Deny, Ask");
        assert_eq!(compared(&[ASK, &wide], &[ASK, &wide, &narrow]).0, Relation::Same);
        assert!(looser(&[ASK, &wide], &[ASK, &narrow]).contains(" of 10.0."));
    }

    #[test]
    fn a_mode_that_permits_more_is_looser_in_that_mode() {
        let autonomous = GUARDED.replace("guarded", "autonomous");
        assert_eq!(
            looser(&[ASK, &autonomous], &[ASK, GUARDED]),
            "`restore_file` of `/x`, mode guarded, confirmed: Ask, Permit"
        );
    }

    #[test]
    fn more_questions_than_the_limit_are_said_to_be_left_out() {
        let many: Vec<String> = (0..2_000).map(|number| format!("\"/p/{number}\"")).collect();
        let forbid = format!(
            "forbid (principal, action, resource) when {{ context has path && [{}].contains(context.path) }};",
            many.join(", ")
        );
        let mut words = Words::default();
        load(&[&forbid]).json().iter().for_each(|json| words.collect(json));
        assert_eq!(words.texts.len(), 2_000);
        let space = words.space(&mut Vec::new()).len();
        assert!(space * MODES.len() * flags().len() > QUESTIONS_MAX, "{space}");
    }
}
