//! What a shell and a manual want to know of the command line, made of what clap knows of it.

use std::fs;
use std::io;
use std::path::Path;

use clap_complete::Shell;

use super::print;
use crate::cli;
use crate::failure::Failure;

/// Prints the completions for a shell.
pub(crate) fn completions(shell: Shell) -> Result<(), Failure> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut cli::whole(), "simple-kv", &mut text);
    print(text);
    Ok(())
}

/// Prints the page of the whole command line, or puts that and one for each tool into a directory.
pub(crate) fn man(dir: Option<&Path>) -> Result<(), Failure> {
    let Some(dir) = dir else {
        let mut text = Vec::new();
        clap_mangen::Man::new(cli::whole())
            .render(&mut text)
            .map_err(|error| Failure::System("make the page", error))?;
        print(text);
        return Ok(());
    };
    let failed = |what| move |error: io::Error| Failure::File(dir.to_owned(), what, error);
    fs::create_dir_all(dir).map_err(failed("make the directory"))?;
    clap_mangen::generate_to(cli::whole(), dir).map_err(failed("put the pages into"))
}
