//! What packagers install beside the command: completions for a shell, and man pages.

use crate::arguments::Arguments;
use crate::exit::{INTERRUPTED, Stop};
use crate::report::{cant_print, print};
use clap::CommandFactory;
use clap_complete::Shell;
use std::path::Path;

/// `cutover completions`.
pub(crate) fn completions(shell: Shell) -> Result<(), Stop> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "cutover", &mut text);
    print(&text)
}

/// `cutover man`.
pub(crate) fn man(folder: Option<&Path>) -> Result<(), Stop> {
    let command = Arguments::command().disable_help_subcommand(true);
    let Some(folder) = folder else {
        let mut text = Vec::new();
        clap_mangen::Man::new(command).render(&mut text).map_err(|error| cant_print(&error))?;
        return print(&text);
    };
    let written =
        std::fs::create_dir_all(folder).and_then(|()| clap_mangen::generate_to(command, folder));
    written.map_err(|error| {
        Stop::new(
            INTERRUPTED,
            format!(
                "can't write man pages into {}: {error}; give another folder",
                folder.display()
            ),
        )
    })
}
