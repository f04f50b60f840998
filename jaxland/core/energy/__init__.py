"""What solvers evaluate: energies, gradients, Hessians and their products."""
