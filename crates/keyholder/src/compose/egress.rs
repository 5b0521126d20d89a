//! The way out to each platform, as its section of the configuration describes it.

use std::{collections::BTreeMap, sync::Arc};

use kh_core::{Code, PlatformName};
use kh_net::{Egress, Settings, SystemRoots};

use super::{Paths, tls::read_pem};
use crate::{
    config::{Config, PlatformConfig},
    output::Failure,
};

/// The ways out, by platform. Reads every file that they need.
pub(crate) fn egresses(config: &Config, paths: &Paths) -> Result<BTreeMap<PlatformName, Arc<Egress>>, Failure> {
    let system = SystemRoots::load();
    let way = |(name, platform): (&PlatformName, &PlatformConfig)| {
        Ok((name.clone(), Arc::new(egress(name, platform, paths, &system)?)))
    };
    config.platforms.iter().map(way).collect()
}

fn egress(
    name: &PlatformName,
    platform: &PlatformConfig,
    paths: &Paths,
    system: &SystemRoots,
) -> Result<Egress, Failure> {
    let bundle = paths.extra_ca(platform);
    let extra_ca = bundle.iter().map(|path| read_pem(path)).collect::<Result<Vec<_>, _>>()?;
    Egress::new(Settings { extra_ca, ..Settings::default() }, system).map_err(|error| {
        let failure =
            Failure::of(Code::CONFIG_INVALID, &error).hint(format!("see [platform.{name}] in keyholder.toml"));
        match bundle {
            Some(path) => failure.hint(format!("the CA bundle is {}", path.display())),
            None => failure,
        }
    })
}
