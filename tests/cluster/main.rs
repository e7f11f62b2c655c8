//! Kubernetes for real. The control plane comes up once for all tests of this file.
