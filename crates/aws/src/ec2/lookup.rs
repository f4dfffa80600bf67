//! Finding what a person names: by its id, a group also by its name, a subnet also by its block.

use super::{Code, Error, SecurityGroup, Subnet, Vpc, VpcId, VpcNetwork};

impl VpcNetwork {
    pub fn default_vpc(&self) -> Option<&Vpc> {
        self.vpcs.iter().find(|vpc| vpc.is_default)
    }

    /// By id or block.
    pub fn find_vpc(&self, given: &str) -> Result<&Vpc, Error> {
        let is_named = |vpc: &&Vpc| vpc.vpc_id.as_str() == given || vpc.cidr_block.to_string() == given;
        let missing = || Error::new(Code::InvalidVpcIdNotFound, format!("The vpc ID '{given}' does not exist"));
        self.vpcs.iter().find(is_named).ok_or_else(missing)
    }

    /// By id or block.
    pub fn find_subnet(&self, given: &str) -> Result<&Subnet, Error> {
        let is_named = |subnet: &&Subnet| subnet.subnet_id.as_str() == given || subnet.cidr_block.to_string() == given;
        let missing = || Error::new(Code::InvalidSubnetIdNotFound, format!("The subnet ID '{given}' does not exist"));
        self.subnets.iter().find(is_named).ok_or_else(missing)
    }

    /// By id, or by name within one VPC. Names are unique there.
    pub fn find_group(&self, vpc: Option<&VpcId>, given: &str) -> Result<&SecurityGroup, Error> {
        let in_vpc = |group: &&SecurityGroup| vpc.is_none_or(|vpc| group.vpc_id == *vpc);
        let by_id = self.security_groups.iter().find(|group| group.group_id.as_str() == given);
        let named: Vec<&SecurityGroup> =
            self.security_groups.iter().filter(in_vpc).filter(|group| group.group_name == given).collect();
        match (by_id, named.as_slice()) {
            (Some(group), _) if in_vpc(&group) => Ok(group),
            (Some(group), _) => Err(Error::new(
                Code::InvalidParameterValue,
                format!("Security group {given} and subnet belong to different networks: it is in {}.", group.vpc_id),
            )),
            (None, [group]) => Ok(group),
            (None, []) => {
                let what = format!("The security group '{given}' does not exist");
                let place = vpc.map_or_else(String::new, |vpc| format!(" in VPC '{vpc}'"));
                Err(Error::new(Code::InvalidGroupNotFound, what + &place))
            }
            (None, several) => {
                let ids: Vec<&str> = several.iter().map(|group| group.group_id.as_str()).collect();
                let what = format!("several groups are called '{given}': {}; give an id", ids.join(", "));
                Err(Error::new(Code::InvalidParameterValue, what))
            }
        }
    }

    pub fn default_group(&self, vpc: &VpcId) -> Option<&SecurityGroup> {
        self.security_groups.iter().find(|group| group.vpc_id == *vpc && group.group_name == super::DEFAULT_GROUP)
    }
}
