/* The roles of softrdma-helper; see main.c. */
#pragma once

int run_agent(int argc, char **argv);
int run_root(int argc, char **argv);
int run_launch(int argc, char **argv);
int run_keeper(int argc, char **argv);
int run_lock(int argc, char **argv);
void die(const char *what);
