// Package dns01 would answer challenges by DNS.
package dns01

import (
	"strings"
	"time"
)

// ChallengeOption changes nothing.
type ChallengeOption struct{}

// Options says whom to ask.
type Options struct {
	RecursiveNameservers []string
}

// Client asks nobody.
type Client struct{}

// NewClient makes one.
func NewClient(*Options) *Client { return &Client{} }

// SetDefaultClient keeps none.
func SetDefaultClient(*Client) {}

// LazyCondOption changes nothing.
func LazyCondOption(bool, func() ChallengeOption) ChallengeOption { return ChallengeOption{} }

// CombineOptions changes nothing.
func CombineOptions(...ChallengeOption) ChallengeOption { return ChallengeOption{} }

// CondOptions changes nothing.
func CondOptions(bool, ...ChallengeOption) ChallengeOption { return ChallengeOption{} }

// DisableAuthoritativeNssPropagationRequirement changes nothing.
func DisableAuthoritativeNssPropagationRequirement() ChallengeOption { return ChallengeOption{} }

// DisableRecursiveNSsPropagationRequirement changes nothing.
func DisableRecursiveNSsPropagationRequirement() ChallengeOption { return ChallengeOption{} }

// PropagationWait changes nothing.
func PropagationWait(time.Duration, bool) ChallengeOption { return ChallengeOption{} }

// UnFqdn is the name without the dot at its end.
func UnFqdn(name string) string { return strings.TrimSuffix(name, ".") }
