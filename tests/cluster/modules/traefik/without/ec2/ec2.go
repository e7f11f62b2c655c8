// Package ec2 asks no cloud for its machines: the real one is a tenth of what Traefik is built from.
package ec2

import (
	"context"
	"errors"

	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// Client asks nobody.
type Client struct{}

// NewFromConfig makes one.
func NewFromConfig(any) *Client { return &Client{} }

// DescribeInstancesInput says which machines are meant.
type DescribeInstancesInput struct {
	InstanceIds []string
}

// DescribeInstancesOutput has none.
type DescribeInstancesOutput struct {
	Reservations []types.Reservation
}

// DescribeInstancesPaginator has one page, which cannot be had.
type DescribeInstancesPaginator struct{}

// NewDescribeInstancesPaginator makes one.
func NewDescribeInstancesPaginator(*Client, *DescribeInstancesInput) DescribeInstancesPaginator {
	return DescribeInstancesPaginator{}
}

// HasMorePages is always so.
func (DescribeInstancesPaginator) HasMorePages() bool { return true }

// NextPage says why not.
func (DescribeInstancesPaginator) NextPage(context.Context) (*DescribeInstancesOutput, error) {
	return nil, errors.New("this Traefik is built without EC2")
}
