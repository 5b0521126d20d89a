//! `keyholder operator`: who may use the admin API stands in the configuration; this makes what proves it.

use clap::Subcommand;
use kh_core::{
    SystemEntropy,
    issued::{IssuedKind, issue},
};
use serde_json::json;

use super::Context;
use crate::output::Exit;

/// Make what proves an operator of the admin API
#[derive(Debug, Subcommand)]
pub(crate) enum OperatorCommand {
    /// Make a token for an operator: the token goes to the person or program, its digest into the configuration
    #[command(after_help = "Examples:
  keyholder operator token
  keyholder --output json operator token | jq -r .token_sha256

The digest goes into the configuration, which is reloaded by itself:
  [operator.ann]
  role = \"operate\"
  token_sha256 = [\"...\"]

The token is shown once and kept nowhere. To replace one, add the new digest, hand the token over, and take the
old digest away.")]
    Token,
}

pub(super) fn run(command: &OperatorCommand, context: &Context) -> Exit {
    let OperatorCommand::Token = command;
    let token = issue(IssuedKind::Guard, &SystemEntropy);
    let digest = token.sha256().to_hex();
    context.terminal.answer(&json!({ "token": token.expose(), "token_sha256": digest }), || {
        format!("token         {}\ntoken_sha256  {digest}\n\nThe token is not shown again.\n", token.expose())
    });
    Exit::Done
}
