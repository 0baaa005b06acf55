"""What tests of every level share: real servers, started once per session and never left behind."""
