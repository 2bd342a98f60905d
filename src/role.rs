//! The roles. To come.

/// What a process can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// The users' edge.
    Frontend,
    /// Answers.
    Bot,
    /// Writes the store.
    Auditor,
    /// Reads the store.
    Admin,
}

impl Role {
    /// Its name in commands, logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Frontend => "frontend",
            Self::Bot => "bot",
            Self::Auditor => "auditor",
            Self::Admin => "admin",
        }
    }
}
