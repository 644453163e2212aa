//! What the package promises to those who depend on it.

use spdx::{Expression, ParseMode};
use std::process::Command;

/// What `cargo deny check licenses` would say, without another program to install: of every package
/// that any feature, target or test needs.
#[test]
fn every_dependency_has_a_licence_that_deny_toml_allows() {
    let root = env!("CARGO_MANIFEST_DIR");
    let deny = std::fs::read_to_string(format!("{root}/deny.toml")).expect("deny.toml");
    let deny: toml::Table = deny.parse().expect("TOML");
    let allowed: Vec<&str> = deny["licenses"]["allow"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|licence| licence.as_str().expect("a text"))
        .collect();
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--all-features"])
        .current_dir(root)
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    assert!(packages.len() > 50, "{}", packages.len());
    for package in packages {
        let name = package["name"].as_str().expect("a name");
        let licence = package["license"].as_str().unwrap_or_else(|| panic!("{name} has none"));
        let expression = Expression::parse_mode(licence, ParseMode::LAX).expect("SPDX");
        let is_allowed = expression.evaluate(|required| {
            required.license.id().is_some_and(|id| allowed.contains(&id.name))
        });
        assert!(is_allowed, "{name}: {licence}");
    }
}
