use std::collections::BTreeMap;

use decidable_canon::{
    Canonical, ReadErrorKind, Reader, Sink, cast,
    tag::{self, Tag},
};

use crate::Error;

/// A name has at most this many bytes of UTF-8.
pub const LONGEST_NAME_BYTES: usize = 256;

/// A group has at most this many names.
const MOST_NAMES: usize = 65_535;

/// What a name belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Group {
    /// A candidate, by `model_id`.
    Model,
    /// A provider, by `provider_id`.
    Provider,
    /// A region, by its bit in a region mask.
    Region,
    /// A capability, by its bit in a capability mask.
    Capability,
}

impl Group {
    /// Every group, in the order of the layout.
    pub const ALL: [Self; 4] = [Self::Model, Self::Provider, Self::Region, Self::Capability];

    /// The group in one word.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Provider => "provider",
            Self::Region => "region",
            Self::Capability => "capability",
        }
    }
}

/// The names of models, providers, regions and capabilities, which travel with the policy.
///
/// Ids and bits decide; names are for people. A name may belong to a model that the catalog no longer has. Within a
/// group every name is unique, not empty and at most [`LONGEST_NAME_BYTES`] long. docs/spec/extensions.md, *Names*.
///
/// ```
/// use std::collections::BTreeMap;
/// use decidable_kernel::{Group, Names};
/// let models = BTreeMap::from([(7, "small".to_owned())]);
/// let names = Names::new(models, BTreeMap::new(), BTreeMap::new(), BTreeMap::new())?;
/// assert_eq!(names.name(Group::Model, 7), Some("small"));
/// assert_eq!(names.id(Group::Model, "small"), Some(7));
/// # Ok::<(), decidable_kernel::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    models: Registry,
    providers: Registry,
    regions: Registry,
    capabilities: Registry,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Registry {
    names: BTreeMap<u32, String>,
    ids: BTreeMap<String, u32>,
}

impl Registry {
    fn new(group: Group, names: BTreeMap<u32, String>) -> Result<Self, Error> {
        let label = group.label();
        if names.len() > MOST_NAMES {
            return Err(Error::too_many_names(
                label,
                cast::u64_from_usize(names.len()),
                cast::u64_from_usize(MOST_NAMES),
            ));
        }
        let mut ids = BTreeMap::new();
        for (id, name) in &names {
            match group {
                Group::Model if *id == 0 => return Err(Error::reserved_model_id("model with a name")),
                Group::Model => {}
                Group::Provider | Group::Region | Group::Capability if *id > 63 => {
                    return Err(Error::out_of_range(label, (*id).into(), 63));
                }
                Group::Provider | Group::Region | Group::Capability => {}
            }
            if name.is_empty() || name.len() > LONGEST_NAME_BYTES {
                return Err(Error::name_length(
                    label,
                    *id,
                    cast::u64_from_usize(name.len()),
                    cast::u64_from_usize(LONGEST_NAME_BYTES),
                ));
            }
            if let Some(first) = ids.insert(name.clone(), *id) {
                return Err(Error::duplicate_name(label, first, *id, name));
            }
        }
        Ok(Self { names, ids })
    }

    fn encode<S: Sink>(&self, out: &mut S) {
        // At most MOST_NAMES, as the constructor checked.
        out.u32(cast::u32_from_usize(self.names.len()).unwrap_or(u32::MAX));
        for (id, name) in &self.names {
            out.u32(*id);
            out.str(name);
        }
    }

    fn decode(group: Group, reader: &mut Reader<'_>) -> Result<Self, Error> {
        let count = reader.u32()?;
        let mut names = BTreeMap::new();
        for _ in 0..count {
            let out_of_order = reader.error(ReadErrorKind::OutOfRange);
            let id = reader.u32()?;
            if names.last_key_value().is_some_and(|(last, _)| *last >= id) {
                return Err(out_of_order.into());
            }
            names.insert(id, reader.str()?.to_owned());
        }
        Self::new(group, names)
    }
}

impl Names {
    /// Takes the names of each group: models and providers by id, regions and capabilities by bit.
    ///
    /// # Errors
    /// `ReservedModelId` for model 0, `OutOfRange` for a provider, region or capability above 63, `NameLength` for a
    /// name that is empty or longer than [`LONGEST_NAME_BYTES`], `DuplicateName`, and `TooManyNames` for more than
    /// 65,535 in one group.
    pub fn new(
        models: BTreeMap<u32, String>,
        providers: BTreeMap<u32, String>,
        regions: BTreeMap<u32, String>,
        capabilities: BTreeMap<u32, String>,
    ) -> Result<Self, Error> {
        Ok(Self {
            models: Registry::new(Group::Model, models)?,
            providers: Registry::new(Group::Provider, providers)?,
            regions: Registry::new(Group::Region, regions)?,
            capabilities: Registry::new(Group::Capability, capabilities)?,
        })
    }

    const fn registry(&self, group: Group) -> &Registry {
        match group {
            Group::Model => &self.models,
            Group::Provider => &self.providers,
            Group::Region => &self.regions,
            Group::Capability => &self.capabilities,
        }
    }

    /// The name of an id or bit.
    #[must_use]
    pub fn name(&self, group: Group, id: u32) -> Option<&str> {
        self.registry(group).names.get(&id).map(String::as_str)
    }

    /// The id or bit of a name.
    #[must_use]
    pub fn id(&self, group: Group, name: &str) -> Option<u32> {
        self.registry(group).ids.get(name).copied()
    }

    /// The names of a group, by ascending id or bit.
    #[must_use]
    pub const fn names(&self, group: Group) -> &BTreeMap<u32, String> {
        &self.registry(group).names
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, Error> {
        Ok(Self {
            models: Registry::decode(Group::Model, reader)?,
            providers: Registry::decode(Group::Provider, reader)?,
            regions: Registry::decode(Group::Region, reader)?,
            capabilities: Registry::decode(Group::Capability, reader)?,
        })
    }
}

impl Canonical for Names {
    const TAG: Tag = tag::NAMES;

    fn encode<S: Sink>(&self, out: &mut S) {
        let Self {
            models,
            providers,
            regions,
            capabilities,
        } = self;
        models.encode(out);
        providers.encode(out);
        regions.encode(out);
        capabilities.encode(out);
    }
}
