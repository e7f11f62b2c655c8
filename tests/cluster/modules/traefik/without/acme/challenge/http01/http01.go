// Package http01 would answer challenges by HTTP.
package http01

import "time"

// PathPrefix is where such a challenge is asked.
const PathPrefix = "/.well-known/acme-challenge/"

// Option changes nothing.
type Option struct{}

// SetDelay changes nothing.
func SetDelay(time.Duration) Option { return Option{} }
