//! `.skep.toml` of a working tree: where its stack runs, and which files it is made of.
//!
//! It names a context and says neither whom to talk to nor as whom: who clones a repository must not send a token where that says.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::failure::Failure;

/// Its name.
pub(crate) const PROJECT_FILE: &str = ".skep.toml";

/// What the nearest file says; empty if there is none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Project {
    /// One of the user's contexts.
    pub(crate) context: Option<String>,
    pub(crate) env: Option<String>,
    pub(crate) stack: Option<String>,
    /// Compose files.
    #[serde(default)]
    pub(crate) files: Vec<PathBuf>,
    /// Where the command was started.
    #[serde(skip)]
    pub(crate) here: PathBuf,
}

impl Project {
    /// Reads the file of this folder, or of the nearest one above it that has one.
    pub(crate) fn around(here: &Path) -> Result<Project, Failure> {
        let mut project = Project::nearest(here)?;
        here.clone_into(&mut project.here);
        Ok(project)
    }

    fn nearest(here: &Path) -> Result<Project, Failure> {
        for folder in here.ancestors() {
            let path = folder.join(PROJECT_FILE);
            match std::fs::read_to_string(&path) {
                Ok(text) => return Project::parse(&text, folder),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(source) => {
                    return Err(Failure::File { doing: format!("read {}", path.display()), source });
                }
            }
        }
        Ok(Project::default())
    }

    fn parse(text: &str, folder: &Path) -> Result<Project, Failure> {
        let mut project: Project = toml::from_str(text).map_err(|error| {
            Failure::usage(
                format!("{} is not valid: {}", folder.join(PROJECT_FILE).display(), error.to_string().trim_end()),
                "allowed are: context, env, stack, files; addresses and tokens belong into your own configuration",
            )
        })?;
        // Whoever works in a folder below it means the same files.
        project.files.iter_mut().for_each(|file| *file = folder.join(&file));
        Ok(project)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_file_counts_and_may_not_say_whom_to_talk_to() {
        let tree = tempfile::tempdir().unwrap();
        let deep = tree.path().join("a/b");
        std::fs::create_dir_all(&deep).unwrap();
        let write = |folder: &str, text: &str| {
            std::fs::write(tree.path().join(folder).join(PROJECT_FILE), text).unwrap();
        };
        write("", "env = 'outer'");
        assert_eq!(Project::around(&deep).unwrap().env.as_deref(), Some("outer"));
        write("a", "context = 'prod'\nstack = 'shop'\nfiles = ['compose.yml']");
        let project = Project::around(&deep).unwrap();
        assert_eq!((project.context.as_deref(), project.env.as_deref()), (Some("prod"), None));
        assert_eq!(project.files, [tree.path().join("a/compose.yml")]);
        for wrong in ["url = 'https://elsewhere'", "token_file = 'x'", "env = 3", "env ="] {
            write("a", wrong);
            let failure = Project::around(&deep).expect_err(wrong);
            assert!(failure.to_string().contains("a/.skep.toml"), "{failure}");
            assert_eq!(failure.exit() as u8, 2);
        }
    }
}
