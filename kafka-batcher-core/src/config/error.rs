//! What can be wrong with a configuration.

/// A setting that can't be used: which one, why, and what would do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// There is no such setting.
    #[error("unknown setting `{key}`{}", suggestion(.nearest))]
    UnknownKey {
        /// The key as given.
        key: String,
        /// The known key most like it.
        nearest: Option<&'static str>,
    },
    /// The value can't be used.
    #[error("setting `{key}` is {problem}; allowed: {allowed}")]
    Invalid {
        /// The key.
        key: String,
        /// What the value is, or what is wrong with it. Never a secret's value.
        problem: String,
        /// What may stand there.
        allowed: &'static str,
    },
    /// A required setting is missing.
    #[error("setting `{key}` is required; allowed: {allowed}")]
    Missing {
        /// The key.
        key: &'static str,
        /// What may stand there.
        allowed: &'static str,
    },
    /// A setting of the whole client stands in a topic.
    #[error("setting `{key}` belongs to the whole client and can't be set for topic `{topic}` alone")]
    NotPerTopic {
        /// The key.
        key: String,
        /// The topic.
        topic: String,
    },
    /// Two topics of the same name.
    #[error("topic `{0}` is configured twice")]
    DuplicateTopic(String),
}

fn suggestion(nearest: &Option<&'static str>) -> String {
    nearest.map_or_else(String::new, |key| format!("; did you mean `{key}`?"))
}

impl ConfigError {
    pub(super) fn invalid(key: &str, problem: impl Into<String>, allowed: &'static str) -> Self {
        Self::Invalid { key: key.to_owned(), problem: problem.into(), allowed }
    }

    pub(super) fn unknown(key: &str, known: impl Iterator<Item = &'static str>) -> Self {
        let nearest = known
            .map(|candidate| (strsim::jaro_winkler(key, candidate), candidate))
            .filter(|(likeness, _)| *likeness > 0.75)
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .map(|(_, candidate)| candidate);
        Self::UnknownKey { key: key.to_owned(), nearest }
    }
}
