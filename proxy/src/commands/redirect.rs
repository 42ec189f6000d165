//! `ferrule-proxy redirect`: installs, removes, checks, prints the redirect rules.

use std::process::ExitCode;

use super::cli::{Action, Plan, Redirect, ToolName};
use super::{EXIT_FOUND, Failure, print_line};
use crate::redirect::apply::{ApplyError, Found, Tool, check, install, remove};
use crate::redirect::plan::{Exemption, RedirectPlan};
use crate::redirect::rules;

pub(super) fn run(redirect: &Redirect) -> Result<ExitCode, Failure> {
    match &redirect.action {
        Action::Install(plan) => {
            install(tool(plan.tool)?, &plan.plan()).map_err(Failure::could_not("install the redirect"))?;
            Ok(ExitCode::SUCCESS)
        }
        Action::Remove { tool: name } => {
            remove(tool(*name)?).map_err(Failure::could_not("remove the redirect"))?;
            Ok(ExitCode::SUCCESS)
        }
        Action::Check(plan) => {
            let found =
                check(tool(plan.tool)?, &plan.plan()).map_err(Failure::could_not("check the redirect"))?;
            match found {
                Found::Installed => {
                    print_line("the redirect is in place")?;
                    Ok(ExitCode::SUCCESS)
                }
                Found::Absent => {
                    print_line("the redirect is not in place")?;
                    Ok(ExitCode::from(EXIT_FOUND))
                }
                Found::Different { first } => {
                    print_line(&format!(
                        "the redirect is another one; the first difference: {first}"
                    ))?;
                    Ok(ExitCode::from(EXIT_FOUND))
                }
            }
        }
        Action::Print(plan) => {
            let text = match plan.tool {
                None | Some(ToolName::Nft) => rules::nft(&plan.plan()),
                Some(ToolName::Iptables | ToolName::IptablesLegacy) => [false, true]
                    .map(|ipv6| {
                        let program = if ipv6 {
                            "ip6tables-restore"
                        } else {
                            "iptables-restore"
                        };
                        format!("# {program} --noflush\n{}", rules::iptables(&plan.plan(), ipv6))
                    })
                    .concat(),
            };
            print_line(text.trim_end())?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn tool(name: Option<ToolName>) -> Result<Tool, Failure> {
    match name {
        Some(ToolName::Nft) => Ok(Tool::Nft),
        Some(ToolName::Iptables) => Ok(Tool::Iptables),
        Some(ToolName::IptablesLegacy) => Ok(Tool::IptablesLegacy),
        None => Tool::installed()
            .map_err(|error: ApplyError| Failure::could_not("find a program for the rules")(error)),
    }
}

impl Plan {
    fn plan(&self) -> RedirectPlan {
        RedirectPlan {
            outbound_port: self.outbound_port,
            inbound_port: self.inbound_port,
            proof_port: self.proof_port,
            exemption: self.mark.map_or(Exemption::User(self.user), Exemption::Mark),
            excluded_inbound: self.exclude_inbound.clone(),
            excluded_outbound: self.exclude_outbound.clone(),
            excluded_ranges: self.exclude_ranges.clone(),
        }
    }
}
