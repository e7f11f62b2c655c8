// Package ext stands where Traefik's published module has nothing: the fields by which a vendor extends its configuration. Here are none.
package ext

// HTTP adds nothing to the configuration of HTTP.
type HTTP struct{}

// Router adds nothing to a router.
type Router struct{}
