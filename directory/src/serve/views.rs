//! Shows one proxy its part of the picture, type by type.

use ferrule_wire::delta::{Name, Version, View};
use ferrule_wire::directory::{ADDRESS, BUNDLE, DENY_LIST, MESH, RULE};
use ferrule_wire::proto::google::protobuf::Any;

use crate::model::Resource;
use crate::picture::Picture;
use crate::scope::Scope;

/// What one proxy may see of one type.
#[derive(Clone, Copy)]
pub(super) struct Part<'p> {
    pub(super) picture: &'p Picture,
    pub(super) scope: &'p Scope,
    pub(super) kind: Kind,
}

/// The types that are served. Whoever subscribes to another is told that there is nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Bundle,
    DenyList,
    Mesh,
    Address,
    Rule,
}

impl Kind {
    /// The types, in the order in which they are sent: whom to trust, then who lives where, then the rules.
    pub(super) const ALL: [Self; 5] = [
        Self::Bundle,
        Self::DenyList,
        Self::Mesh,
        Self::Address,
        Self::Rule,
    ];

    pub(super) fn of(type_url: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.type_url() == type_url)
    }

    pub(super) const fn type_url(self) -> &'static str {
        match self {
            Self::Bundle => BUNDLE,
            Self::DenyList => DENY_LIST,
            Self::Mesh => MESH,
            Self::Address => ADDRESS,
            Self::Rule => RULE,
        }
    }
}

impl Part<'_> {
    /// The resource of that name, whether covered or not.
    fn resource(&self, name: &str) -> Option<(Name, &Resource)> {
        let picture = self.picture;
        let own = |name: &str| (name == picture.model.trust_domain().as_str()).then(|| Name::from(name));
        match self.kind {
            Kind::Bundle => picture
                .bundles
                .get_key_value(name)
                .map(|(name, resource)| (name.clone(), &**resource)),
            Kind::DenyList => Some((own(name)?, picture.denied.as_deref()?)),
            Kind::Mesh => Some((own(name)?, &picture.mesh)),
            Kind::Address => picture
                .model
                .addresses()
                .get_key_value(name)
                .map(|(name, address)| (name.clone(), &*address.resource)),
            Kind::Rule => picture
                .model
                .rules()
                .get_key_value(name)
                .map(|(name, rule)| (name.clone(), &*rule.resource)),
        }
    }

    /// The resource in the form in which it is sent.
    pub(super) fn packed(&self, name: &str) -> Option<(Version, Any)> {
        let (_, resource) = self.resource(name)?;
        Some((resource.version(), resource.packed()))
    }
}

impl View for Part<'_> {
    fn each(&self, tell: &mut dyn FnMut(&Name, Version)) {
        let (picture, scope) = (self.picture, self.scope);
        let own = || Name::from(picture.model.trust_domain().as_str());
        match self.kind {
            Kind::Bundle => {
                for (name, resource) in &picture.bundles {
                    tell(name, resource.version());
                }
            }
            Kind::DenyList => {
                if let Some(resource) = &picture.denied {
                    tell(&own(), resource.version());
                }
            }
            Kind::Mesh => tell(&own(), picture.mesh.version()),
            Kind::Address => {
                for (name, address) in picture.model.addresses() {
                    if scope.covers(&address.joined, &picture.model) {
                        tell(name, address.resource.version());
                    }
                }
            }
            Kind::Rule => {
                for (name, rule) in picture.model.rules() {
                    if scope.selects(&rule.written.policy) {
                        tell(name, rule.resource.version());
                    }
                }
            }
        }
    }

    fn covered(&self, name: &str) -> Option<Version> {
        let model = &self.picture.model;
        match self.kind {
            Kind::Address => {
                let address = model.addresses().get(name)?;
                let covered = self.scope.covers(&address.joined, model);
                covered.then(|| address.resource.version())
            }
            Kind::Rule => {
                let rule = model.rules().get(name)?;
                let covered = self.scope.selects(&rule.written.policy);
                covered.then(|| rule.resource.version())
            }
            Kind::Bundle | Kind::DenyList | Kind::Mesh => {
                let (_, resource) = self.resource(name)?;
                Some(resource.version())
            }
        }
    }

    fn find(&self, name: &str) -> Vec<(Name, Version)> {
        match self.kind {
            // Who lives at an address of the mesh is no secret to anybody in it: without it they would have to guess.
            Kind::Address => self.picture.model.find(name),
            // Other workloads' rules are none of its business.
            _ => {
                let covered = self.covered(name);
                covered
                    .map(|version| (Name::from(name), version))
                    .into_iter()
                    .collect()
            }
        }
    }

    fn size(&self, name: &str) -> usize {
        self.resource(name).map_or(0, |(_, resource)| resource.size())
    }
}
