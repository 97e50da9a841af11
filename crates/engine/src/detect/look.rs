// SPDX-License-Identifier: Apache-2.0
//! One event as detectors look at it, with the questions that most of them ask.

use super::{Authority, Claim, Context, Invocation, Lineage, Seen, authority, programs};
use crate::event::{
    Activity, Authentication, Change, Confidence, Content, Event, FileActivity, FileActivityId, FileKind,
    NetworkActivity, ProcessActivity, ProcessActivityId,
};
use crate::id::ProcessKey;
use crate::incident::InvocationKind;
use crate::path::HostPath;

/// An event and who is behind it.
#[derive(Clone, Copy)]
pub struct Look<'a> {
    pub event: &'a Event,
    pub context: &'a Context<'a>,
    lineage: &'a dyn Lineage,
    /// Who did it.
    pub actor: ProcessKey,
    /// What now stands at a path that did not before. A moved directory counts as itself, not as what is in it.
    pub arrival: Option<Arrival<'a>>,
}

impl std::fmt::Debug for Look<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Look").field("event", &self.event).field("actor", &self.actor).finish_non_exhaustive()
    }
}

/// Something new stands at a path: written, renamed or linked to there.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    pub path: &'a HostPath,
    /// What the vault recorded there; `None` outside protected trees.
    pub change: Option<Change>,
}

impl<'a> Look<'a> {
    /// `None`: an event that no detector reads, or one of the agent's own.
    pub(super) fn at(event: &'a Event, lineage: &'a dyn Lineage, context: &'a Context<'a>) -> Option<Self> {
        let actor = match &event.activity {
            Activity::File(file) => file.actor,
            Activity::Content(content) => content.actor,
            Activity::Network(network) => network.actor,
            Activity::Process(process) if process.activity == ProcessActivityId::Exec => process.process.key,
            Activity::Authentication(authentication) if authentication.logon => authentication.session,
            Activity::Process(_)
            | Activity::Authentication(_)
            | Activity::Loss(_)
            | Activity::Finding(_)
            | Activity::Incident(_)
            | Activity::Remediation(_)
            | Activity::Hearsay(_) => return None,
        };
        let own = context.configuration.never_touch.contains(&actor);
        let arrival = match &event.activity {
            Activity::File(file) => arrival(file),
            _ => None,
        };
        (!own).then_some(Self { event, context, lineage, actor, arrival })
    }

    #[must_use]
    pub fn file(&self) -> Option<&'a FileActivity> {
        match &self.event.activity {
            Activity::File(file) => Some(file),
            _ => None,
        }
    }

    /// A content that lost its form.
    #[must_use]
    pub fn content(&self) -> Option<&'a Content> {
        match &self.event.activity {
            Activity::Content(content) => Some(content),
            _ => None,
        }
    }

    /// A connection or a listener.
    #[must_use]
    pub fn network(&self) -> Option<&'a NetworkActivity> {
        match &self.event.activity {
            Activity::Network(network) => Some(network),
            _ => None,
        }
    }

    /// Somebody who has just logged in.
    #[must_use]
    pub fn logon(&self) -> Option<&'a Authentication> {
        match &self.event.activity {
            Activity::Authentication(authentication) => Some(authentication),
            _ => None,
        }
    }

    /// A process that has just replaced its program.
    #[must_use]
    pub fn exec(&self) -> Option<&'a ProcessActivity> {
        match &self.event.activity {
            Activity::Process(process) => Some(process),
            _ => None,
        }
    }

    /// The path whose name or content went away.
    #[must_use]
    pub fn departure(&self) -> Option<&'a HostPath> {
        let file = self.file()?;
        matches!(file.activity, FileActivityId::Delete | FileActivityId::Rename).then_some(&file.file.path)
    }

    #[must_use]
    pub fn seen(&self) -> Option<Seen<'a>> {
        self.lineage.process(self.actor)
    }

    #[must_use]
    pub fn program(&self) -> Option<&'a HostPath> {
        self.seen()?.program
    }

    #[must_use]
    pub fn parent_program(&self) -> Option<&'a HostPath> {
        self.lineage.process(self.seen()?.parent)?.program
    }

    /// The actor's program and its ancestors', nearest first.
    pub fn programs(&self) -> impl Iterator<Item = &'a HostPath> {
        programs(self.actor, self.lineage)
    }

    #[must_use]
    pub fn invocation(&self) -> Option<Invocation<'a>> {
        self.lineage.invocation(self.actor)
    }

    #[must_use]
    pub fn in_session(&self) -> bool {
        self.invocation().is_some_and(|invocation| *invocation.kind == InvocationKind::Session)
    }

    #[must_use]
    pub fn authority(&self) -> Authority {
        authority(self.actor, self.lineage, self.context)
    }

    /// The actor changes what belongs to the account it works for: its own files, or with root's power those of the
    /// ordinary user who logged in. Nothing is a stranger's own.
    #[must_use]
    pub fn is_own(&self) -> bool {
        let Some(seen) = self.seen().filter(|_| !self.is_strange()) else { return false };
        let owner = self.file().and_then(|file| file.mode).map(|mode| mode.uid);
        if seen.user.euid != 0 {
            // Without root's power one changes little but one's own.
            return owner.is_none_or(|owner| owner == seen.user.euid);
        }
        let login = self.invocation().and_then(|invocation| invocation.login);
        login.is_some_and(|login| login != 0 && owner == Some(login))
    }

    /// It belongs to an incident, or to work with a finding of Medium or more on it.
    #[must_use]
    pub fn is_suspect(&self) -> bool {
        self.lineage.is_suspect(self.actor)
    }

    /// A program or script that it runs and that came by a request.
    #[must_use]
    pub fn ran_from_request(&self) -> Option<&'a HostPath> {
        self.lineage.ran_from_request(self.actor)
    }

    /// Who started the work: a server, for a request.
    #[must_use]
    pub fn started_by(&self) -> Option<ProcessKey> {
        Some(self.lineage.process(self.invocation()?.leader)?.parent)
    }

    /// It works in a session of somebody who logged in from where that user does not.
    #[must_use]
    pub fn is_strange(&self) -> bool {
        self.invocation().is_some_and(|found| found.is_strange(self.context.configuration))
    }

    /// As whom the server runs that started the work.
    #[must_use]
    pub fn server_uid(&self) -> Option<u32> {
        Some(self.lineage.process(self.started_by()?)?.user.euid)
    }

    /// Who leads the server that started the work: the same one for all its workers.
    #[must_use]
    pub fn server_leader(&self) -> Option<ProcessKey> {
        Some(self.lineage.invocation(self.started_by()?)?.leader)
    }

    /// Root's power in the session of an ordinary user.
    #[must_use]
    pub fn is_borrowed_power(&self) -> bool {
        let login = self.invocation().and_then(|invocation| invocation.login);
        self.seen().is_some_and(|seen| seen.user.euid == 0) && login.is_some_and(|login| login != 0)
    }

    /// How much a change counts that gives its maker a way back in: nothing from those who may, little to one's own
    /// account, `otherwise` from anybody else.
    #[must_use]
    pub fn foothold(&self, otherwise: Confidence) -> Option<Confidence> {
        match self.authority() {
            Authority::ChangeWindow | Authority::Administrator | Authority::ChangeTool | Authority::Machinery => None,
            Authority::Nobody if !self.is_own() => Some(otherwise),
            // A user's own service manager keeps the user's own files.
            Authority::Nobody => {
                let by_itself = self.invocation().is_some_and(|found| matches!(found.kind, InvocationKind::Unit(_)));
                (!by_itself).then_some(Confidence::Low)
            }
        }
    }

    /// `what` happened to `path`.
    #[must_use]
    pub fn claim(&self, confidence: Confidence, path: &HostPath, what: &str) -> Claim {
        let title = format!("`{path}` {what} by {}", self.who());
        Claim { confidence, title, process: self.actor, paths: vec![path.clone()], technique: None }
    }

    /// The actor did something that is about no path but its own program's.
    #[must_use]
    pub fn deed(&self, confidence: Confidence, what: &str) -> Claim {
        let title = format!("{what} by {}", self.who());
        let paths = self.program().cloned().into_iter().collect();
        Claim { confidence, title, process: self.actor, paths, technique: None }
    }

    /// The actor in words: program and what it works for.
    #[must_use]
    pub fn who(&self) -> String {
        let program = self.program().map_or_else(|| "an unknown program".to_owned(), |program| format!("`{program}`"));
        let uid = self.seen().map_or_else(String::new, |seen| format!(" as uid {}", seen.user.euid));
        let work = match self.invocation().map(|found| (found.kind, found.login)) {
            Some((InvocationKind::Session, Some(login))) => format!(" in a login session of uid {login}"),
            Some((InvocationKind::Session, None)) => " in a login session".to_owned(),
            Some((InvocationKind::Unit(unit), _)) => format!(" in unit `{}`", unit.escape_default()),
            Some((InvocationKind::Cron, _)) => " in a cron run".to_owned(),
            Some((InvocationKind::Request, _)) => " for a request".to_owned(),
            Some((InvocationKind::Other, _)) | None => String::new(),
        };
        format!("{program}{uid}{work}")
    }
}

fn arrival(file: &FileActivity) -> Option<Arrival<'_>> {
    let arrival = match file.activity {
        FileActivityId::Close => Arrival { path: &file.file.path, change: file.change },
        FileActivityId::Create if file.kind == FileKind::Symlink => {
            Arrival { path: &file.file.path, change: file.change }
        }
        FileActivityId::Rename | FileActivityId::Link => {
            Arrival { path: file.file_result.as_ref()?, change: file.change_result }
        }
        FileActivityId::Create
        | FileActivityId::Update
        | FileActivityId::Delete
        | FileActivityId::SetAttributes
        | FileActivityId::SetSecurity
        | FileActivityId::Truncate
        | FileActivityId::Open
        | FileActivityId::Read => return None,
    };
    let same = |change: Change| change.before == change.after && !change.created && !change.removed;
    (!arrival.change.is_some_and(same)).then_some(arrival)
}
