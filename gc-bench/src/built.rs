//! What this program was built of, as its build script found it.

use serde::{Deserialize, Serialize};

/// The build: enough to make it again. What is not known is empty.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Build {
    /// The last commit that changed a file that the program is compiled from.
    pub(crate) revision: String,
    /// Whether a file that the program is compiled from differs from that revision; no key where
    /// that is not known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) dirty: Option<bool>,
    /// What `rustc --version` says.
    pub(crate) rustc: String,
    /// The target triple.
    pub(crate) target: String,
    /// `RUSTFLAGS`, or those of Cargo's configuration.
    pub(crate) flags: String,
    pub(crate) opt_level: String,
    /// The processor's features that the compiler may use.
    pub(crate) target_features: Vec<String>,
    /// Features of the libraries that are on: `gc-heap/losses`.
    pub(crate) features: Vec<String>,
    /// Of `Cargo.lock`, which names each dependency's version: what `git hash-object` says.
    pub(crate) lock: String,
}

impl Build {
    /// Of this program.
    pub(crate) fn this() -> Self {
        let of = |name: &'static str, all: &[(&'static str, bool)]| {
            all.iter().filter(|(_, on)| *on).map(|(feature, _)| format!("{name}/{feature}")).collect::<Vec<_>>()
        };
        let features = [of("gc-core", &gc_core::FEATURES), of("gc-heap", &gc_heap::FEATURES)].concat();
        let target_features = env!("GC_BENCH_TARGET_FEATURES").split(',').filter(|name| !name.is_empty());
        Self {
            revision: env!("GC_BENCH_REVISION").into(),
            dirty: env!("GC_BENCH_DIRTY").parse().ok(),
            rustc: env!("GC_BENCH_RUSTC").into(),
            target: env!("GC_BENCH_TARGET").into(),
            flags: env!("GC_BENCH_FLAGS").into(),
            opt_level: env!("GC_BENCH_OPT_LEVEL").into(),
            target_features: target_features.map(str::to_owned).collect(),
            features,
            lock: env!("GC_BENCH_LOCK").into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_build_is_known() {
        let build = Build::this();
        assert!(build.rustc.starts_with("rustc ") && build.target.contains("linux"), "{build:?}");
        assert!(build.features.iter().any(|feature| feature == "gc-heap/losses"), "{build:?}");
        // Without a repository nothing is known of it; with one, all is.
        let hash = |text: &str| text.len() >= 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        assert_eq!(
            (build.revision.is_empty(), build.dirty.is_none()),
            (!hash(&build.revision), !hash(&build.revision))
        );
        assert!(build.lock.is_empty() || hash(&build.lock), "{build:?}");
    }
}
