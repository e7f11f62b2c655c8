// Package types has the words for machines.
package types

// InstanceStateName is the state of a machine.
type InstanceStateName string

// InstanceStateNameRunning is the one that counts.
const InstanceStateNameRunning InstanceStateName = "running"

// InstanceState is the state of a machine.
type InstanceState struct {
	Name InstanceStateName
}

// Instance is a machine.
type Instance struct {
	InstanceId       *string
	PrivateIpAddress *string
	State            *InstanceState
}

// Reservation has machines.
type Reservation struct {
	Instances []Instance
}
