// SPDX-License-Identifier: Apache-2.0
//! Policies that an operator can read: Cedar, strictly validated at load, evaluated with every error counting as a no.

use super::Request;
use crate::action::{Action, Merge, RestoreFile};
use crate::id::VersionId;
use crate::incident::Decision;
use crate::input::Mode;
use cedar_policy::ffi::DetailedError;
use cedar_policy::{
    Authorizer, Context, Effect, Entities, EntityId, EntityTypeName, EntityUid, Policy, PolicyId, PolicySet,
    RestrictedExpression, Schema, ValidationMode, Validator,
};
use serde::Serialize;
use std::str::FromStr;

/// LIMIT: policies in force; a decision looks at each.
pub const POLICIES_MAX: usize = 256;
/// LIMIT: bytes of one policy file.
pub const POLICY_BYTES_MAX: usize = 256 << 10;

const SCHEMA: &str = include_str!("../../../../policies/schema.cedarschema");
const DEFAULTS: [(&str, &str); 4] = [
    ("observe.cedar", include_str!("../../../../policies/observe.cedar")),
    ("guarded.cedar", include_str!("../../../../policies/guarded.cedar")),
    ("autonomous.cedar", include_str!("../../../../policies/autonomous.cedar")),
    ("services.cedar", include_str!("../../../../policies/services.cedar")),
];
const OT: [(&str, &str); 1] = [("ot.cedar", include_str!("../../../../policies/ot/ot.cedar"))];
const MODES: [Mode; 3] = [Mode::Observe, Mode::Guarded, Mode::Autonomous];

/// One reason why a policy cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}:{column}: {what}; expected {expected}")]
pub struct PolicyError {
    pub file: String,
    /// Starts at 1.
    pub line: u32,
    /// In characters, starts at 1.
    pub column: u32,
    pub what: String,
    pub expected: String,
}

/// What one policy says where it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Says {
    /// A permit with `@ask`: a person is asked.
    Ask,
    Permit,
    Forbid,
    /// It cannot be evaluated, which counts as a no to everything.
    Error,
}

/// A policy that holds for a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Holding {
    /// Its `@id`, else its file and place.
    pub id: String,
    pub says: Says,
    /// Its `@reason` or `@ask`, or the error; empty when it gives none.
    pub why: String,
}

/// What the policies say together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) decision: Decision,
    pub(super) reasons: Vec<String>,
    /// How many persons have to approve what is asked; else 0.
    pub(super) persons: usize,
}

impl Said {
    fn no(why: String) -> Self {
        Self { decision: Decision::Deny, reasons: vec![why], persons: 0 }
    }

    /// The larger, the less happens.
    pub(super) const fn weight(&self) -> (Decision, usize) {
        (self.decision, self.persons)
    }
}

/// Validated policies. Not serialisable: rebuilt from `Configuration.policies`.
#[derive(Debug)]
pub struct Policies {
    set: PolicySet,
    schema: Schema,
    authorizer: Authorizer,
    /// One for each of [`MODES`]: the agent, in its mode.
    entities: [Entities; 3],
    /// Some policy looks at paths.
    by_path: bool,
}

impl Policies {
    /// All of `texts` (name and text) or every reason why not.
    pub fn load(texts: &[(String, String)]) -> Result<Self, Vec<PolicyError>> {
        let built_in = |what: String| {
            vec![PolicyError {
                file: "schema.cedarschema".to_owned(),
                line: 1,
                column: 1,
                what,
                expected: "a schema".to_owned(),
            }]
        };
        let (schema, _) = Schema::from_cedarschema_str(SCHEMA).map_err(|error| built_in(error.to_string()))?;
        let mut errors = Vec::new();
        let mut set = PolicySet::new();
        for (name, text) in texts {
            match parse(name, text) {
                Ok(policies) => policies.into_iter().for_each(|policy| {
                    if let Err(error) = set.add(policy) {
                        errors.push(at(name, text, 0, error.to_string(), "an @id used once"));
                    }
                }),
                Err(error) => errors.push(error),
            }
        }
        if set.num_of_policies() > POLICIES_MAX {
            errors.push(at(
                "",
                "",
                0,
                format!("{} policies", set.num_of_policies()),
                &format!("at most {POLICIES_MAX}"),
            ));
        }
        let validated = Validator::new(schema.clone()).validate(&set, ValidationMode::Strict);
        let mut invalid: Vec<PolicyError> = validated
            .validation_errors()
            .map(|error| {
                let id = error.policy_id().to_string();
                let found = texts.iter().find(|(name, text)| holds(name, text, &id)).cloned();
                let (name, text) = found.unwrap_or_default();
                detailed(&name, &text, &DetailedError::from(error), "what the schema `schema.cedarschema` allows")
            })
            .collect();
        // The validator looks once for each action: one mistake is reported once.
        invalid.sort_by(|left, right| key(left).cmp(&key(right)));
        invalid.dedup_by(|left, right| (&left.file, left.line, left.column) == (&right.file, right.line, right.column));
        errors.extend(invalid);
        if !errors.is_empty() {
            return Err(errors);
        }
        let entities = entities(&schema).map_err(built_in)?;
        let by_path = texts.iter().any(|(_, text)| text.contains("path"));
        Ok(Self { set, schema, authorizer: Authorizer::new(), entities, by_path })
    }

    /// The sets that are built in; the first is used where nobody chose.
    pub const SETS: [&str; 2] = ["standard", "ot"];

    /// The policies of a built-in set, name and text.
    #[must_use]
    pub fn built_in(set: &str) -> Option<Vec<(String, String)>> {
        let texts: &[(&str, &str)] = match set {
            "standard" => &DEFAULTS,
            "ot" => &OT,
            _ => return None,
        };
        Some(texts.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect())
    }

    /// The set `standard`.
    #[must_use]
    pub fn defaults() -> Vec<(String, String)> {
        Self::built_in(Self::SETS[0]).unwrap_or_default()
    }

    /// Each as JSON, in Cedar's own form.
    pub(super) fn json(&self) -> Vec<serde_json::Value> {
        self.set.policies().filter_map(|policy| policy.to_json().ok()).collect()
    }

    /// Whether one path may be judged otherwise than another.
    pub(crate) const fn look_at_paths(&self) -> bool {
        self.by_path
    }

    /// What the policies say, with the reasons: those that hold, or that none does.
    pub(super) fn decide(&self, request: &Request<'_>) -> Said {
        let Some(each) = self.each(request.action) else { return self.decide_one(request) };
        let worst = self.worst(request, each).map(|(_, said)| said);
        worst.unwrap_or_else(|| Said::no("no file is named".to_owned()))
    }

    /// Every policy that holds, by name; of many files, for the one that is the reason of the decision.
    pub(super) fn holding(&self, request: &Request<'_>) -> Vec<Holding> {
        match self.each(request.action) {
            None => self.holding_one(request),
            Some(each) => self
                .worst(request, each)
                .map_or_else(Vec::new, |(action, _)| self.holding_one(&Request { action: &action, ..*request })),
        }
    }

    /// Many files are as many restorations and evictions: each of them must be permitted. Where no policy looks at paths,
    /// one of each kind speaks for all. `None` for an action that is asked about as a whole.
    fn each(&self, action: &Action) -> Option<Vec<Action>> {
        let mut each: Vec<Action> = match action {
            Action::RestoreFiles { files } => files.iter().map(Self::one).collect(),
            Action::RestorePackaged { files } => {
                files.iter().map(|file| Action::RestorePackaged { files: vec![file.clone()] }).collect()
            }
            _ => return None,
        };
        let mut kinds: Vec<&str> = Vec::new();
        each.retain(|action| {
            let known = kinds.contains(&action.name());
            kinds.push(action.name());
            self.by_path || !known
        });
        Some(each)
    }

    /// The first of those that least is permitted of.
    fn worst(&self, request: &Request<'_>, each: Vec<Action>) -> Option<(Action, Said)> {
        let mut worst: Option<(Action, Said)> = None;
        for action in each {
            let said = self.decide_one(&Request { action: &action, ..*request });
            if worst.as_ref().is_none_or(|(_, worst)| said.weight() > worst.weight()) {
                worst = Some((action, said));
            }
        }
        worst
    }

    /// Each policy is asked alone: together, Cedar names only those that decide.
    fn holding_one(&self, request: &Request<'_>) -> Vec<Holding> {
        let Ok(asked) = self.asked(request) else { return Vec::new() };
        let entities = &self.entities[at_mode(request.mode)];
        let mut holding: Vec<Holding> = Vec::new();
        for policy in self.set.policies() {
            let Ok(alone) = PolicySet::from_policies([policy.clone()]) else { continue };
            let response = self.authorizer.is_authorized(&asked, &alone, entities);
            let id = policy.id().to_string();
            let why = |key| policy.annotation(key).unwrap_or_default().to_owned();
            if let Some(error) = response.diagnostics().errors().next() {
                holding.push(Holding { id, says: Says::Error, why: error.to_string() });
            } else if response.diagnostics().reason().next().is_some() {
                let (says, why) = match (policy.effect(), policy.annotation("ask")) {
                    (Effect::Forbid, _) => (Says::Forbid, why("reason")),
                    (Effect::Permit, Some(_)) => (Says::Ask, why("ask")),
                    (Effect::Permit, None) => (Says::Permit, why("reason")),
                };
                holding.push(Holding { id, says, why });
            }
        }
        holding.sort_by(|left, right| (right.says, &left.id).cmp(&(left.says, &right.id)));
        holding
    }

    fn one(file: &RestoreFile) -> Action {
        match file.base {
            VersionId::UNKNOWN => {
                let expected = file.later.last().map(|authored| authored.version).unwrap_or_default();
                Action::QuarantineFile { path: file.path.clone(), expected }
            }
            _ => Action::RestoreFile(file.clone()),
        }
    }

    fn decide_one(&self, request: &Request<'_>) -> Said {
        let no = |reasons| Said { decision: Decision::Deny, reasons, persons: 0 };
        let asked = match self.asked(request) {
            Ok(asked) => asked,
            Err(why) => return Said::no(format!("policy: the request does not fit the schema: {why}")),
        };
        let entities = &self.entities[at_mode(request.mode)];
        let response = self.authorizer.is_authorized(&asked, &self.set, entities);
        let errors: Vec<String> =
            response.diagnostics().errors().map(|error| format!("policy: an error counts as no: {error}")).collect();
        if !errors.is_empty() {
            return no(errors);
        }
        let mut holding: Vec<&Policy> = response.diagnostics().reason().filter_map(|id| self.set.policy(id)).collect();
        holding.sort_by(|left, right| left.id().cmp(right.id()));
        if response.decision() == cedar_policy::Decision::Deny {
            let forbidding: Vec<String> = holding
                .iter()
                .filter(|policy| policy.effect() == Effect::Forbid)
                .map(|policy| format!("policy `{}` forbids it{}", policy.id(), because(policy, "reason")))
                .collect();
            return match forbidding.is_empty() {
                true => Said::no("no policy permits it".to_owned()),
                false => no(forbidding),
            };
        }
        let (asking, permitting): (Vec<_>, Vec<_>) =
            holding.into_iter().partition(|policy| policy.annotation("ask").is_some());
        if permitting.is_empty() {
            let asks = |policy: &&Policy| {
                let whom = if persons(policy) > 1 { "asks two persons" } else { "asks" };
                format!("policy `{}` {whom}{}", policy.id(), because(policy, "ask"))
            };
            let persons = asking.iter().map(|policy| persons(policy)).max().unwrap_or(1);
            return Said { decision: Decision::Ask, reasons: asking.iter().map(asks).collect(), persons };
        }
        let permits = permitting.iter().map(|policy| format!("policy `{}` permits it", policy.id()));
        Said { decision: Decision::Permit, reasons: permits.collect(), persons: 0 }
    }

    fn asked(&self, request: &Request<'_>) -> Result<cedar_policy::Request, String> {
        let text = |value: String| RestrictedExpression::new_string(value);
        let flag = RestrictedExpression::new_bool;
        let merged = matches!(request.facts.map(|facts| &facts.merge), Some(Merge::Disjoint { .. }));
        let count = i64::try_from(request.action.target_count()).unwrap_or(i64::MAX);
        let mut context = vec![
            ("confirmed".to_owned(), flag(request.confirmed)),
            ("attack_only".to_owned(), flag(request.attack_only)),
            ("failure".to_owned(), flag(request.failure)),
            ("authorised_change".to_owned(), flag(request.authorised_change)),
            ("targets".to_owned(), RestrictedExpression::new_long(count)),
            ("prepared".to_owned(), flag(request.facts.is_some())),
            ("merged".to_owned(), flag(merged)),
        ];
        match request.action {
            Action::RestoreFile(restore) => context.push(("path".to_owned(), text(restore.path.to_string()))),
            Action::QuarantineFile { path, .. } => context.push(("path".to_owned(), text(path.to_string()))),
            Action::LoadFirewall { path } | Action::RenewCertificate { path } => {
                context.push(("path".to_owned(), text(path.to_string())));
            }
            Action::FreeSpace { .. } => {}
            Action::RestorePackaged { files } => {
                // It is asked of one at a time.
                context.extend(files.first().map(|file| ("path".to_owned(), text(file.path.to_string()))));
            }
            Action::RemoveUnit { unit } | Action::ReloadService { unit } | Action::RestartService { unit } => {
                context.push(("unit".to_owned(), text(unit.clone())));
            }
            Action::FilterTraffic { address, .. } => {
                context.push(("address".to_owned(), RestrictedExpression::new_ip(address.to_string())));
            }
            Action::SuspendProcesses { .. }
            | Action::LockAccount { .. }
            | Action::IsolateHost { .. }
            | Action::UndoAction { .. }
            | Action::RestoreFiles { .. }
            | Action::TerminateProcesses { .. }
            | Action::EndSession { .. } => {}
        }
        let context = Context::from_pairs(context).map_err(|error| error.to_string())?;
        let action = uid("Action", request.action.name())?;
        cedar_policy::Request::new(
            uid("Agent", "thymus")?,
            action,
            uid("Target", "target")?,
            context,
            Some(&self.schema),
        )
        .map_err(|error| error.to_string())
    }
}

/// Its place in [`MODES`].
const fn at_mode(mode: Mode) -> usize {
    match mode {
        Mode::Observe => 0,
        Mode::Guarded => 1,
        Mode::Autonomous => 2,
    }
}

fn key(error: &PolicyError) -> (&str, u32, u32, &str) {
    (&error.file, error.line, error.column, &error.what)
}

/// How many different persons have to approve what this policy asks: its `@persons`, else one.
fn persons(policy: &Policy) -> usize {
    policy.annotation("persons").and_then(|number| number.parse().ok()).unwrap_or(1)
}

fn because(policy: &Policy, key: &str) -> String {
    policy.annotation(key).filter(|why| !why.is_empty()).map(|why| format!(": {why}")).unwrap_or_default()
}

fn uid(kind: &str, id: &str) -> Result<EntityUid, String> {
    let kind = EntityTypeName::from_str(kind).map_err(|error| error.to_string())?;
    Ok(EntityUid::from_type_name_and_id(kind, EntityId::new(id)))
}

/// The agent in each mode. Autonomous is in guarded; observe stands alone.
fn entities(schema: &Schema) -> Result<[Entities; 3], String> {
    let within = |mode: &str| {
        let json = serde_json::json!([
            { "uid": { "type": "Agent", "id": "thymus" }, "attrs": {}, "parents": [{ "type": "Mode", "id": mode }] },
            { "uid": { "type": "Mode", "id": "observe" }, "attrs": {}, "parents": [] },
            { "uid": { "type": "Mode", "id": "guarded" }, "attrs": {}, "parents": [] },
            { "uid": { "type": "Mode", "id": "autonomous" }, "attrs": {}, "parents": [{ "type": "Mode", "id": "guarded" }] },
        ]);
        Entities::from_json_value(json, Some(schema)).map_err(|error| error.to_string())
    };
    let name = |mode: Mode| match mode {
        Mode::Observe => "observe",
        Mode::Guarded => "guarded",
        Mode::Autonomous => "autonomous",
    };
    let [observe, guarded, autonomous] = MODES.map(|mode| within(name(mode)));
    Ok([observe?, guarded?, autonomous?])
}

/// Policies of one file, named by their `@id`, else by file and place.
fn parse(name: &str, text: &str) -> Result<Vec<Policy>, PolicyError> {
    if text.len() > POLICY_BYTES_MAX {
        return Err(at(name, text, 0, format!("{} bytes", text.len()), &format!("at most {POLICY_BYTES_MAX}")));
    }
    let set = PolicySet::from_str(text).map_err(|error| {
        detailed(name, text, &DetailedError::from(&error), "a policy: permit or forbid (principal, action, resource);")
    })?;
    if let Some(template) = set.templates().next() {
        return Err(at(name, text, 0, format!("template `{}`", template.id()), "a policy without slots"));
    }
    // Cedar numbers the policies of a text in their order.
    let order =
        |policy: &&Policy| policy.id().to_string().trim_start_matches("policy").parse::<u32>().unwrap_or(u32::MAX);
    let mut by_persons: Vec<&Policy> = set.policies().filter(|policy| policy.annotation("persons").is_some()).collect();
    by_persons.sort_by_key(order);
    let places: Vec<usize> = text.match_indices("@persons").map(|(offset, _)| offset).collect();
    for (nth, policy) in by_persons.into_iter().enumerate() {
        let Some(number) = policy.annotation("persons") else { continue };
        let offset = places.get(nth).copied().unwrap_or(0);
        if !["1", "2"].contains(&number) {
            return Err(at(name, text, offset, format!("@persons(\"{}\")", number.escape_debug()), "1 or 2"));
        }
        if policy.effect() != Effect::Permit || policy.annotation("ask").is_none() {
            return Err(at(
                name,
                text,
                offset,
                "@persons without a question".to_owned(),
                "it at a permit that carries @ask",
            ));
        }
    }
    let mut policies: Vec<Policy> =
        set.policies().map(|policy| policy.new_id(PolicyId::new(identity(name, policy)))).collect();
    policies.sort_by(|left, right| left.id().cmp(right.id()));
    Ok(policies)
}

fn identity(file: &str, policy: &Policy) -> String {
    policy.annotation("id").map_or_else(|| format!("{file}:{}", policy.id()), ToOwned::to_owned)
}

fn holds(name: &str, text: &str, id: &str) -> bool {
    parse(name, text).is_ok_and(|policies| policies.iter().any(|policy| policy.id().to_string() == id))
}

fn detailed(file: &str, text: &str, error: &DetailedError, otherwise: &str) -> PolicyError {
    let label = error.source_locations.first();
    let expected = label.and_then(|label| label.label.clone()).or_else(|| error.help.clone());
    let expected = expected.map(|words| words.strip_prefix("expected ").map(ToOwned::to_owned).unwrap_or(words));
    let what = match error.message.split_once(" parsing policy set: ") {
        Some((_, cause)) => cause.to_owned(),
        None => error.message.clone(),
    };
    at(file, text, label.map_or(0, |label| label.loc.start), what, &expected.unwrap_or_else(|| otherwise.to_owned()))
}

fn at(file: &str, text: &str, offset: usize, what: String, expected: &str) -> PolicyError {
    let before = text.get(..offset.min(text.len())).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let number = |count: usize| u32::try_from(count + 1).unwrap_or(u32::MAX);
    PolicyError {
        file: file.to_owned(),
        line: number(before.matches('\n').count()),
        column: number(before[line_start..].chars().count()),
        what,
        expected: expected.to_owned(),
    }
}
