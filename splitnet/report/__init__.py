"""Results for people: tables for the terminal and pictures, one module for each kind of result."""
