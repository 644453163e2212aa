//! What is measured: words after `--`.

use std::path::PathBuf;

const USAGE: &str = "cargo bench --bench speed -- [WORD...]

  --quick          small stores and one round: looks that everything runs, and measures nothing
  --rounds N       rounds of each work; the median counts (3)
  --only WORD      only the works whose name has WORD in it
  --folder DIR     where the stores lie; a real disk, not a memory file system (target/speed)
  --out DIR        where speed.json and speed.svg are written (docs/speed)
  --without-ldk    do not build and run benches/ldk, which needs the network the first time";

/// What is measured, where, and how often.
#[derive(Clone, Debug)]
pub struct Arguments {
    pub quick: bool,
    pub rounds: usize,
    pub only: Option<String>,
    pub folder: PathBuf,
    pub out: PathBuf,
    pub ldk: bool,
}

impl Arguments {
    /// Reads the words; the error is the usage.
    pub fn read(words: &[String]) -> Result<Self, String> {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let mut arguments = Self {
            quick: false,
            rounds: 3,
            only: None,
            folder: root.join("target/speed"),
            out: root.join("docs/speed"),
            ldk: true,
        };
        let mut out = None;
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().cloned().ok_or_else(|| USAGE.to_owned());
            match word.as_str() {
                // Cargo adds it to every benchmark's words.
                "--bench" => {}
                "--quick" => arguments.quick = true,
                "--rounds" => arguments.rounds = value()?.parse().map_err(|_| USAGE.to_owned())?,
                "--only" => arguments.only = Some(value()?),
                "--folder" => arguments.folder = value()?.into(),
                "--out" => out = Some(PathBuf::from(value()?)),
                "--without-ldk" => arguments.ldk = false,
                _ => return Err(USAGE.to_owned()),
            }
        }
        if arguments.quick {
            arguments.rounds = 1;
            // A quick run's numbers are none: they must not replace real ones.
            arguments.out = arguments.folder.join("quick");
        }
        if let Some(out) = out {
            arguments.out = out;
        }
        if arguments.rounds == 0 {
            return Err(USAGE.to_owned());
        }
        Ok(arguments)
    }
}
