//! What a reconciliation found and did, one line for each difference.

use std::fmt;

/// What happened to one object, or to one field of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// It was missing.
    Created,
    /// It was changed in place.
    Updated,
    /// It is as planned.
    Unchanged,
    /// It differs and is left alone: it is not yalo's.
    LeftAlone,
    /// It must not or can't be changed.
    Refused {
        /// Why.
        reason: String,
        /// What the operator can do.
        way_out: String,
    },
}

/// One line of the report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// `stream YALO_CHAT`, `consumer audit of YALO_CHAT`.
    pub object: String,
    /// The server's name of the field; empty if it is about the whole object.
    pub field: String,
    /// The value found.
    pub from: String,
    /// The value planned.
    pub to: String,
    /// What was done (in a dry run: what would be done).
    pub action: Action,
}

impl Change {
    pub(super) fn whole(object: String, action: Action) -> Self {
        Self { object, field: String::new(), from: String::new(), to: String::new(), action }
    }

    /// Whether it was refused.
    pub fn is_refused(&self) -> bool {
        matches!(self.action, Action::Refused { .. })
    }
}

impl fmt::Display for Change {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = match &self.action {
            Action::Created => "created",
            Action::Updated => "updated",
            Action::Unchanged => "as planned",
            Action::LeftAlone => "left alone",
            Action::Refused { .. } => "refused",
        };
        write!(out, "{verb:<11}{}", self.object)?;
        match (self.field.as_str(), self.from.as_str()) {
            ("", _) => {}
            (field, "") => write!(out, ": {field} {}", self.to)?,
            (field, from) => write!(out, ": {field} {from} -> {}", self.to)?,
        }
        if let Action::Refused { reason, way_out } = &self.action {
            write!(out, "\n           {reason}\n           {way_out}")?;
        }
        Ok(())
    }
}

/// All that a reconciliation found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// In the order of the plan: streams, then consumers.
    pub changes: Vec<Change>,
}

impl Report {
    /// Whether something was made or changed (in a dry run: would be).
    pub fn has_changed(&self) -> bool {
        self.changes.iter().any(|change| matches!(change.action, Action::Created | Action::Updated))
    }

    /// What was refused; then nothing at all was changed.
    pub fn refused(&self) -> impl Iterator<Item = &Change> {
        self.changes.iter().filter(|change| change.is_refused())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, change) in self.changes.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(out, "{separator}{change}")?;
        }
        Ok(())
    }
}
